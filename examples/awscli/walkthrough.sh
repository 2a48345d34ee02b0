#!/usr/bin/env bash
#
# AWS's bulk provisioning walkthrough, command for command with the AWS CLI, against the fake of AWS in this repository.
#
#	examples/awscli/walkthrough.sh        starts a fake of its own, keeps nothing
#	examples/awscli/walkthrough.sh DIR    the same; keys and certificates stay in DIR, a folder that does not exist yet
#
# With AWS_ENDPOINT_URL set it uses the fake that runs there (go run ./examples/fakeaws). It never talks to AWS itself.
# Needs bash 4.4, the AWS CLI (tried with 2.9 and 1.45), openssl, curl and jq, and Go to start the fake.

set -euo pipefail

fail() {
	printf 'walkthrough.sh: %s\n' "$*" >&2
	exit 1
}

for tool in aws openssl curl jq; do
	command -v "$tool" >/dev/null || fail "needs the command $tool, which is not installed"
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
fake=
stop_fake() {
	if [[ -n $fake ]]; then
		kill "$fake" 2>/dev/null || true
		wait "$fake" 2>/dev/null || true
	fi
}
trap 'stop_fake; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

(($# <= 1)) || fail "want at most one folder, have $#: $*"
out=${1:-$work/out}
[[ ! -e $out ]] || fail "$out exists already: remove it, or name another folder"
umask 077
mkdir -p -- "$out"
out=$(cd -- "$out" && pwd)

# --- the endpoint -----------------------------------------------------------------------------------------------------

start_fake() {
	command -v go >/dev/null || fail "needs go to start the fake; or set AWS_ENDPOINT_URL to one that runs"
	(cd "$here/../.." && go build -o "$work/fakeaws" ./examples/fakeaws)
	# One device in two seconds, so that there is some progress to see.
	exec {output}< <(exec "$work/fakeaws" -addr 127.0.0.1:0 -rate 0.5)
	fake=$!
	read -r -t 300 -u "$output" AWS_ENDPOINT_URL || fail "the fake ended, or printed nothing for 5 minutes"
	AWS_ENDPOINT_URL=${AWS_ENDPOINT_URL#*=}
}

[[ -n ${AWS_ENDPOINT_URL:-} ]] || start_fake
export AWS_ENDPOINT_URL
export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost
curl -fsS --max-time 60 -o "$work/ca.pem" "$AWS_ENDPOINT_URL/_fake/ca.pem" || fail "$AWS_ENDPOINT_URL is not the fake, or does not answer"

# The fake takes any key. A made-up one, and none of your own settings, so that no command can reach your AWS account.
unset "${!AWS_ENDPOINT_URL_@}" AWS_IGNORE_CONFIGURED_ENDPOINT_URLS AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_REGION
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
export AWS_ACCESS_KEY_ID=fake AWS_SECRET_ACCESS_KEY=fake AWS_DEFAULT_REGION=us-east-1 AWS_PAGER=""

# AWS_ENDPOINT_URL says it all to the AWS CLI from 1.29 and 2.13 on. Older ones want an option.
version=$(command aws --version 2>&1) # aws-cli/2.9.19 Python/3.11.2 …
endpoint=()
case $version in
aws-cli/1.[0-9].* | aws-cli/1.1[0-9].* | aws-cli/1.2[0-8].* | aws-cli/2.[0-9].* | aws-cli/2.1[0-2].*)
	endpoint=(--endpoint-url "$AWS_ENDPOINT_URL")
	;;
esac
aws() { command aws "${endpoint[@]}" "$@"; }

echo "${version%% *} ${endpoint[*]:-with AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL}"

# --- the walkthrough --------------------------------------------------------------------------------------------------

bucket=my-fleet-input
role=iot-bulk-provisioning-role
devices=(device-one device-two device-three)
cd "$out"

echo "== a bucket for the data file"
aws s3 mb "s3://$bucket"

echo "== a role that lets AWS IoT read it and register things"
role_arn=$(aws iam create-role --role-name "$role" --assume-role-policy-document "file://$here/trust-policy.json" \
	--query Role.Arn --output text)
aws iam put-role-policy --role-name "$role" --policy-name read-data-file --policy-document "file://$here/role-policy.json"
aws iam attach-role-policy --role-name "$role" --policy-arn arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration
echo "$role_arn"

echo "== a key and a certificate signing request for each device, and a line of the data file"
serial=0
for device in "${devices[@]}"; do
	openssl req -new -newkey rsa:2048 -nodes -keyout "$device.key" -out "$device.csr" \
		-subj "/C=US/ST=WA/L=Seattle/O=MyOrg/CN=MyDept" 2>"$work/openssl.log" || fail "$device: $(cat "$work/openssl.log")"
	# jq writes the JSON: a request has line breaks, and a line of the data file may have none.
	jq -nc --arg ThingName "$device" --arg SerialNumber "$(printf %03d $((++serial)))" --rawfile CSR "$device.csr" \
		'$ARGS.named' >>bulk-provisioning-data.json
	echo "$device"
done
aws s3 cp --no-progress bulk-provisioning-data.json "s3://$bucket/bulk-provisioning-data.json"

echo "== the task"
# Once only: the AWS CLI tries a call again whose answer was lost, and this one would start a second task.
task=$(AWS_MAX_ATTEMPTS=1 aws iot start-thing-registration-task --template-body "file://$here/provisioning-template.json" \
	--input-file-bucket "$bucket" --input-file-key bulk-provisioning-data.json --role-arn "$role_arn" \
	--query taskId --output text)
aws iot list-thing-registration-tasks
for ((second = 0; ; second++)); do
	((second < 60)) || fail "task $task has not ended after a minute"
	read -r status succeeded failed percent < <(aws iot describe-thing-registration-task --task-id "$task" \
		--query '[status, successCount, failureCount, percentageProgress]' --output text)
	echo "$status: $succeeded succeeded, $failed failed, $percent %"
	[[ $status == InProgress ]] || break
	sleep 1
done

# reports TYPE prints the lines of all files of a report. Whoever has a link can read its file, so none is shown.
reports() {
	local links link
	links=$(aws iot list-thing-registration-task-reports --task-id "$task" --report-type "$1" --query 'resourceLinks[]' --output text)
	for link in $links; do
		[[ $link == None ]] || curl -fsS --max-time 60 "$link"
	done
}

# A task with failed lines is Completed all the same. What counts is the counts.
if [[ $status != Completed || $succeeded != "${#devices[@]}" ]]; then
	reports ERRORS >&2
	fail "the task ended as $status with $succeeded of ${#devices[@]} devices registered"
fi
reports RESULTS >results.json

echo "== each device's certificate"
for device in "${devices[@]}"; do
	jq -r --arg device "$device" 'select(.response.ResourceArns.thing | endswith(":thing/" + $device)) | .response.CertificatePem' \
		results.json >"$device.crt"
	key=$(openssl pkey -in "$device.key" -pubout)
	[[ $key == "$(openssl x509 -in "$device.crt" -noout -pubkey)" ]] || fail "$device: the certificate is not for the key in $device.key"
	# Only here: AWS publishes no CA to check device certificates against.
	openssl verify -CAfile "$work/ca.pem" "$device.crt"

	# What is registered under the thing's name is this certificate: AWS's id for it is its SHA-256.
	id=$(openssl x509 -in "$device.crt" -outform DER | openssl dgst -sha256 -r | cut -d ' ' -f 1)
	principals=$(aws iot list-thing-principals --thing-name "$device" --query 'principals[]' --output text)
	[[ $principals == arn:aws:iot:*":cert/$id" ]] || fail "$device: want certificate $id attached and no other, have: $principals"
done

echo "walkthrough.sh: ${#devices[@]} devices have a thing and a certificate that fits their key"
