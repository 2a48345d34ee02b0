#!/usr/bin/env bash
#
# What can go wrong around a run, tried as a user would, with bulkprovision against examples/fakeaws:
#
#	examples/bulkprovision/scenarios.sh account    the account knows more than the ledger: the same list twice, a swapped
#	                                               board, a lost key, a lost ledger, a missing thing type, what devices
#	                                               may do, a trial undone
#	examples/bulkprovision/scenarios.sh newcomer   lists and networks as they are: semicolons, a wrong header, devices' own
#	                                               requests, a proxy's page, a clock that is off, a wrong secret key
#	examples/bulkprovision/scenarios.sh own-ca     certificates of your own CA: registered under it, without it, and
#	                                               when the devices first connect
#	examples/bulkprovision/scenarios.sh connect    devices that come off the line and connect, or not: the walkthrough's,
#	                                               and some with topics of their own, also by mosquitto
#	examples/bulkprovision/scenarios.sh spreadsheet  failures.csv mended in LibreOffice
#
# Each command is printed with what it prints, and what must come of it is checked. Needs Go, curl and jq; spreadsheet
# needs LibreOffice Calc as well, newcomer python3 and openssl, own-ca openssl, mosquitto's clients and the AWS CLI, connect
# mosquitto's clients.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
servers=()
cleanup() {
	((${#servers[@]} == 0)) || kill "${servers[@]}" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

fail() {
	printf 'scenarios.sh: %s\n' "$*" >&2
	exit 1
}

setup=-setup # of each bulkprovision; empty to leave the account as it is

go build -o "$work" ./examples/bulkprovision ./examples/device ./examples/fakeaws

# start COMMAND… starts a server, and waits for the first line that it prints, which is then in $line. Its other lines are
# left in $output, for read -u. Minutes are no measure of the server: they end a script that would hang.
start() {
	exec {output}< <(exec "$@")
	servers+=($!)
	read -r -t 300 -u "$output" line || fail "$1 ended, or printed nothing for 5 minutes"
}

# serve FLAGS… starts a fake account and points the following commands at it.
serve() {
	start "$work/fakeaws" -addr 127.0.0.1:0 "$@"
	export AWS_ENDPOINT_URL=${line#AWS_ENDPOINT_URL=} AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=factory AWS_SECRET_ACCESS_KEY=secret
	export MQTT_ENDPOINT="" NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
	if [[ " $* " == *" -mqtt "* ]]; then
		read -r -u "$output" line
		MQTT_ENDPOINT=${line#MQTT_ENDPOINT=}
	fi
}

# bulk WANT FLAGS… runs bulkprovision, shows command and output, and checks the exit code. The output is in $out. The
# template of AWS's walkthrough can't connect, which is said each time and left out here.
bulk() {
	local want=$1 code=0
	shift
	set -- -backend aws -bucket scenarios ${setup:+"$setup"} "$@"
	printf '\n$ bulkprovision %s\n' "${*//$work\//}"
	out=$("$work/bulkprovision" "$@" 2>&1) || code=$?
	out=$(grep -v '^template: ' <<<"${out//$work\//}" || true)
	printf '%s\n(exit %d)\n' "$out" "$code"
	((code == want)) || fail "the exit code must be $want"
}

# device WANT FLAGS… runs examples/device in the same way.
device() {
	local want=$1 code=0
	shift
	printf '\n$ device %s\n' "${*//$work\//}"
	out=$("$work/device" "$@" 2>&1) || code=$?
	printf '%s\n(exit %d)\n' "$out" "$code"
	((code == want)) || fail "the exit code must be $want"
}

# says TEXT… checks that the last output has each text.
says() {
	local text
	for text in "$@"; do
		[[ $out == *"$text"* ]] || fail "the output must have \"$text\""
	done
}

# certificates THING N checks how many ACTIVE certificates the thing has in the account.
certificates() {
	local count
	count=$(aws_state | jq --arg thing "$1" '[.certificates[] | select(.status == "ACTIVE" and any(.thingNames[]; . == $thing))] | length')
	((count == $2)) || fail "$1 must have $2 active certificates; it has $count"
	printf '(%s has %d active certificates)\n' "$1" "$2"
}

aws_state() { curl -fsS --max-time 300 "$AWS_ENDPOINT_URL/_fake/state"; }

# holds WHAT N checks how many of something the account has.
holds() {
	local count
	count=$(aws_state | jq --arg what "$1" '.[$what] | length')
	((count == $2)) || fail "the account must hold $2 $1; it holds $count"
	printf '(the account holds %d %s)\n' "$2" "$1"
}

list() { printf 'ThingName,SerialNumber\n' && printf 'board-%s,%s\n' "$@"; }

# make_ca NAME FLAGS… makes NAME.pem and NAME.key of a CA that is valid for 20 years.
make_ca() {
	local name=$1
	shift
	openssl ecparam -name prime256v1 -genkey -noout -out "$work/$name.key"
	openssl req -x509 -new -key "$work/$name.key" -subj "/O=MyOrg/CN=MyOrg Device CA $name" -days 7300 -addext keyUsage=critical,keyCertSign,cRLSign \
		-out "$work/$name.pem" "$@" 2>/dev/null
}

# issued_by CA RUN THING… checks with openssl that the things' certificates are the CA's and for the keys beside them.
issued_by() {
	local ca=$1 run=$2 thing folder
	shift 2
	for thing; do
		folder=$work/$run/devices/$thing
		printf '\n$ openssl verify -x509_strict -purpose sslclient -CAfile %s.pem %s/devices/%s/certificate.pem\n' "$ca" "$run" "$thing"
		openssl verify -x509_strict -purpose sslclient -CAfile "$work/$ca.pem" "$folder/certificate.pem" | sed "s|$work/||"
		cmp <(openssl x509 -in "$folder/certificate.pem" -noout -pubkey) <(openssl pkey -in "$folder/private-key.pem" -pubout) ||
			fail "$thing has the certificate of another key"
	done
}

# revoked FILE and not_revoked FILE check with openssl whether a certificate is on the CA's revocation list.
revoked() {
	out=$(openssl verify -crl_check -CAfile <(cat "$work/ca.pem" "$work/ca.crl") "$1" 2>&1) && fail "${1#"$work/"} must be revoked"
	printf '%s\n' "${out//$work\//}"
	says "certificate revoked"
}

not_revoked() { openssl verify -crl_check -CAfile <(cat "$work/ca.pem" "$work/ca.crl") "$1" | sed "s|$work/||"; }

own_ca() {
	serve
	list 1 0001 2 0002 3 0003 >"$work/devices.csv"
	make_ca ca
	make_ca other
	make_ca short -days 30
	make_ca leaf -addext "basicConstraints=critical,CA:FALSE"

	echo "=== a CA that can't issue certificates"
	bulk 1 -devices "$work/devices.csv" -run "$work/refused" -ca-cert "$work/ca.pem" -ca-key "$work/other.key"
	says "the key is not the certificate's"
	bulk 1 -devices "$work/devices.csv" -run "$work/refused" -ca-cert "$work/short.pem" -ca-key "$work/short.key"
	says "before the certificates that it would issue"
	bulk 1 -devices "$work/devices.csv" -run "$work/refused" -ca-cert "$work/leaf.pem" -ca-key "$work/leaf.key"
	says "CA:TRUE"
	[[ ! -e $work/refused ]] || fail "nothing may be made with such a CA"

	echo
	echo "=== certificates of the CA, registered under it"
	bulk 0 -devices "$work/devices.csv" -run "$work/under" -ca-cert "$work/ca.pem" -ca-key "$work/ca.key" -subject "O=MyOrg,serialNumber={SerialNumber},CN={ThingName}"
	says "3 of 3 devices provisioned"
	issued_by ca under board-1 board-2 board-3
	bulk 0 -run "$work/under" -ca-cert "$work/ca.pem" -ca-key "$work/ca.key"
	says "3 of 3 devices provisioned"
	holds certificates 3
	bulk 0 -run "$work/under" -ca-cert "$work/ca.pem" -ca-key "$work/ca.key" -remove board-2 -crl "$work/ca.crl"
	revoked "$work/under/devices/board-2/certificate.pem"
	not_revoked "$work/under/devices/board-1/certificate.pem"
	holds certificates 2

	echo
	echo "=== the CA's key is encrypted, and the list is issued once more in place of the first certificates"
	openssl pkcs8 -topk8 -in "$work/ca.key" -passout pass:secret -out "$work/ca.enc"
	local again=(-devices "$work/devices.csv" -run "$work/again" -ca-cert "$work/ca.pem" -existing replace -crl "$work/ca.crl")
	bulk 1 "${again[@]}" -ca-key "$work/ca.enc"
	says "it is encrypted" "openssl pkey -in ca.enc | bulkprovision"
	bulk 0 "${again[@]}" -ca-key <(openssl pkey -in "$work/ca.enc" -passin pass:secret)
	says "2 older certificates replaced"
	issued_by ca again board-1 board-2 board-3
	revoked "$work/under/devices/board-1/certificate.pem"
	not_revoked "$work/again/devices/board-1/certificate.pem"
	holds certificates 3

	echo
	echo "=== certificates of a CA that the account does not have"
	list 4 0004 5 0005 6 0006 >"$work/more.csv"
	setup=
	role=arn:aws:iam::123456789012:role/iot-bulk-provisioning-role # which the run above has made
	bulk 1 -devices "$work/more.csv" -run "$work/without" -ca-cert "$work/other.pem" -ca-key "$work/other.key" -cert-mode without-ca -role-arn "$role"
	says "iot:RegisterCertificateWithoutCA"
	holds certificates 3
	setup=-setup
	bulk 0 -devices "$work/more.csv" -run "$work/without" -ca-cert "$work/other.pem" -ca-key "$work/other.key" -cert-mode without-ca
	says "3 of 3 devices provisioned"
	issued_by other without board-4 board-5 board-6
	cat "$work/without/"*.json "$work/under/"*.json >/dev/null # the folders are there to be searched
	! grep -rF -e "$(sed -n 2p "$work/other.key")" -e "$(sed -n 2p "$work/ca.key")" "$work/without" "$work/under" || fail "the CA's key is in the run's folder"

	echo
	echo "=== both connect, with a policy that lets them"
	serve -mqtt 127.0.0.1:0
	jq -n '{Parameters: {ThingName: {Type: "String"}, SerialNumber: {Type: "String"}, CertificatePem: {Type: "String"}}, Resources: {
		thing: {Type: "AWS::IoT::Thing", Properties: {ThingName: {Ref: "ThingName"}, AttributePayload: {serial: {Ref: "SerialNumber"}}}},
		certificate: {Type: "AWS::IoT::Certificate", Properties: {CertificatePem: {Ref: "CertificatePem"}, Status: "ACTIVE"}},
		policy: {Type: "AWS::IoT::Policy", Properties: {PolicyDocument: ({Version: "2012-10-17", Statement: [
			{Effect: "Allow", Action: "iot:*", Resource: "*"}]} | tojson)}}}}' >"$work/any.json"
	bulk 0 -devices "$work/devices.csv" -run "$work/under-any" -template "$work/any.json" -ca-cert "$work/ca.pem" -ca-key "$work/ca.key" -connect 3
	says "3 of 3 connected"
	bulk 0 -devices "$work/more.csv" -run "$work/without-any" -template "$work/any.json" -ca-cert "$work/other.pem" -ca-key "$work/other.key" \
		-cert-mode without-ca -connect 3
	says "3 of 3 connected"

	echo
	echo "=== left to the first connection: just-in-time provisioning"
	serve -mqtt 127.0.0.1:0
	local jit=(-run "$work/jit" -ca-cert "$work/ca.pem" -ca-key "$work/ca.key" -cert-mode jit)
	setup=
	bulk 1 -devices "$work/devices.csv" "${jit[@]}" -role-arn arn:aws:iam::123456789012:role/iot-bulk-provisioning-role
	says "the CA of the certificates is not registered"
	setup=-setup
	bulk 4 -devices "$work/devices.csv" "${jit[@]}" -jit-template examples/bulkprovision/template-jit.json
	says "0 of 3 devices provisioned, 3 issued: each registers at its first connection"
	issued_by ca jit board-1 board-2 board-3
	holds certificates 0
	first_connection board-1
	first_connection board-2
	holds certificates 2
	bulk 4 "${jit[@]}" -jit-template examples/bulkprovision/template-jit.json
	says "2 of 3 devices provisioned, 1 issued"
	first_connection board-3
	bulk 0 "${jit[@]}" -jit-template examples/bulkprovision/template-jit.json -connect 3
	says "3 of 3 devices provisioned" "3 of 3 connected"
	holds things 3

	echo
	echo "=== left to the first connection: just-in-time registration, with somebody's rule"
	serve -mqtt 127.0.0.1:0
	jit=(-run "$work/jitr" -ca-cert "$work/ca.pem" -ca-key "$work/ca.key" -cert-mode jit)
	bulk 4 -devices "$work/devices.csv" "${jit[@]}"
	says "3 issued"
	bulk 3 "${jit[@]}" -connect 3
	says "0 of 3 devices provisioned, 3 issued" "0 of 3 connected" "the account: its certificate is PENDING_ACTIVATION"
	holds certificates 3
	activate_pending
	bulk 0 "${jit[@]}" -connect 3
	says "3 of 3 devices provisioned" "3 of 3 connected and said hello"
	issued_by ca jitr board-1 board-2 board-3
	certificates board-1 1
	holds certificates 3
	holds things 3
}

# activate_pending does with each certificate that waits for it what the rule's Lambda function would do: a thing of its
# CN, a policy, and ACTIVE last.
activate_pending() {
	local id status arn thing
	printf '\n$ aws iot list-certificates\n'
	operator list-certificates --query 'certificates[].[certificateId,status]' --output text | tee "$work/pending"
	operator create-policy --policy-name hello --policy-document '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}' >/dev/null
	while read -r id status; do
		[[ $status == PENDING_ACTIVATION ]] || fail "certificate $id must be PENDING_ACTIVATION"
		arn=$(operator describe-certificate --certificate-id "$id" --query certificateDescription.certificateArn --output text)
		# In a file, since openssl stops reading before the AWS CLI has written its last newline.
		operator describe-certificate --certificate-id "$id" --query certificateDescription.certificatePem --output text >"$work/waiting.pem"
		thing=$(openssl x509 -in "$work/waiting.pem" -noout -subject -nameopt multiline | sed -n 's/^ *commonName *= //p')
		printf '(%s: a thing, a policy, and ACTIVE)\n' "$thing"
		operator create-thing --thing-name "$thing" >/dev/null
		operator attach-thing-principal --thing-name "$thing" --principal "$arn"
		operator attach-policy --policy-name hello --target "$arn"
		operator update-certificate --certificate-id "$id" --new-status ACTIVE
	done <"$work/pending"
}

# operator is the AWS CLI, whose older versions read neither AWS_ENDPOINT_URL nor AWS_REGION.
operator() { aws --endpoint-url "$AWS_ENDPOINT_URL" --region "$AWS_REGION" iot "$@"; }

# hello RUN THING has a device publish, with what was delivered to it.
hello() {
	local dir=$work/$1/devices/$2
	timeout 300 mosquitto_pub -h "${MQTT_ENDPOINT%:*}" -p "${MQTT_ENDPOINT##*:}" --cafile "$dir/root-ca.pem" --cert "$dir/certificate.pem" \
		--key "$dir/private-key.pem" -i "$2" -t "devices/$2/hello" -q 1 -m hi >/dev/null 2>&1
}

# first_connection THING connects twice: AWS IoT closes the first connection when it has provisioned the device.
first_connection() {
	! hello jit "$1" || fail "the first connection of $1 must be closed"
	hello jit "$1" || fail "$1 could not connect after it was provisioned"
	printf '\n(%s has connected for the first time)\n' "$1"
}

account() {
	serve
	list 1 0001 2 0002 3 0003 >"$work/devices.csv"

	echo "=== the same list with two run folders"
	bulk 0 -devices "$work/devices.csv" -run "$work/monday"
	says "3 of 3 devices provisioned"
	bulk 3 -devices "$work/devices.csv" -run "$work/tuesday"
	says "0 of 3 devices provisioned" "exists 3"
	certificates board-1 1
	bulk 0 -devices "$work/devices.csv" -run "$work/wednesday" -existing add
	certificates board-1 2
	bulk 0 -run "$work/monday" -orphans
	says "0 certificates that no device uses" "board-1: its thing also has the ACTIVE certificate"
	bulk 3 -run "$work/monday"
	says "3 devices with another ACTIVE certificate, which somebody else has registered meanwhile"
	bulk 0 -run "$work/monday" -existing add
	bulk 0 -devices "$work/devices.csv" -run "$work/thursday" -existing replace
	certificates board-1 1
	certificates board-3 1

	echo
	echo "=== a swapped board: board-2 came back with a new key"
	list 2 0002 >"$work/swapped.csv"
	bulk 3 -devices "$work/swapped.csv" -run "$work/repair"
	says "exists 1"
	bulk 0 -devices "$work/swapped.csv" -run "$work/repaired" -existing replace
	certificates board-2 1
	holds things 3
	holds certificates 3

	echo
	echo "=== a lost key"
	mv "$work/thursday/devices/board-1/private-key.pem" "$work/elsewhere.pem"
	bulk 3 -run "$work/thursday"
	says "1 without their private key"
	mv "$work/elsewhere.pem" "$work/thursday/devices/board-1/private-key.pem"
	bulk 0 -run "$work/thursday"

	echo
	echo "=== a lost ledger: the keys are there, fleet.db is not"
	rm "$work/thursday/fleet.db"*
	list 1 0001 3 0003 >"$work/two.csv"
	bulk 1 -devices "$work/two.csv" -run "$work/thursday"
	says "has a key of run" "-existing take-over"
	bulk 0 -devices "$work/two.csv" -run "$work/thursday" -existing take-over
	says "2 of 2 devices provisioned"
	certificates board-1 1
	certificates board-3 1

	echo
	echo "=== a thing type that nobody made"
	serve
	bulk 0 -devices "$work/devices.csv" -run "$work/first"
	jq '.Resources.thing.Properties.ThingTypeName = "pump-9"' examples/awscli/provisioning-template.json >"$work/typed.json"
	list 4 0004 5 0005 >"$work/more.csv"
	setup="" bulk 1 -devices "$work/more.csv" -run "$work/typed" -template "$work/typed.json" \
		-role-arn arn:aws:iam::123456789012:role/iot-bulk-provisioning-role
	says "pump-9"
	holds certificates 3

	echo
	echo "=== what devices may do: with the walkthrough's policy publish and not connect, with topics of their own both"
	setup="" bulk 1 -devices "$work/more.csv" -run "$work/asked" -dry-run -may 'publish:dt/{ThingName}/x' \
		-role-arn arn:aws:iam::123456789012:role/iot-bulk-provisioning-role
	says "connect: board-4 is refused: no statement of the template's resource policy allows it" "all devices  2 refused  2 allowed"
	jq '.Resources.policy.Properties.PolicyDocument = ({Version: "2012-10-17", Statement: [
		{Effect: "Allow", Action: "iot:Connect", Resource: "arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
		{Effect: "Allow", Action: "iot:Publish", Resource: "arn:aws:iot:*:*:topic/dt/${iot:Connection.Thing.ThingName}/*"}]} | tojson)' \
		examples/awscli/provisioning-template.json >"$work/own.json"
	setup="" bulk 0 -devices "$work/more.csv" -run "$work/asked" -dry-run -may 'publish:dt/{ThingName}/x' -template "$work/own.json" \
		-role-arn arn:aws:iam::123456789012:role/iot-bulk-provisioning-role
	says "all devices  2 allowed  2 allowed"

	echo
	echo "=== a trial, undone"
	bulk 0 -run "$work/first" -remove board-2
	bulk 3 -run "$work/first"
	says "2 of 3 devices provisioned, 1 removed"
	bulk 0 -run "$work/first" -remove all
	holds things 0
	holds certificates 0
	holds policies 0
}

connect() {
	local fake
	printf 'ThingName,SerialNumber\ndevice-one,001\ndevice-two,002\ndevice-three,003\n' >"$work/three.csv"
	# template.OwnTopics, in the walkthrough's template.
	jq '.Resources.policy.Properties.PolicyDocument = ({Version: "2012-10-17", Statement: [
		{Effect: "Allow", Action: "iot:Connect", Resource: "arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
		{Effect: "Allow", Action: ["iot:Publish", "iot:Receive"], Resource: "arn:aws:iot:*:*:topic/devices/${iot:Connection.Thing.ThingName}/*"},
		{Effect: "Allow", Action: "iot:Subscribe", Resource: "arn:aws:iot:*:*:topicfilter/devices/${iot:Connection.Thing.ThingName}/*"}]} | tojson)' \
		examples/awscli/provisioning-template.json >"$work/own-topics.json"

	for fake in aws fake; do
		serve -mqtt 127.0.0.1:0
		echo "=== the walkthrough's three devices, which may publish and not connect (-backend $fake)"
		bulk 3 -backend $fake -devices "$work/three.csv" -run "$work/walkthrough-$fake" -connect 3
		says "3 of 3 devices provisioned" "0 of 3 connected" "device-one: connect: " "device-three: connect: " "iot:Connect"
		bulk 3 -backend $fake -run "$work/walkthrough-$fake" -connect 1 -json
		jq -e '.provisioned == 3 and .connect.tried == 1 and .connect.connected == 0 and .connect.refused[0].step == "connect"
			and (.connect.refused[0].account | contains("iot:Connect"))' < <(grep '^{' <<<"$out") >/dev/null || fail "the JSON must tell it, too"

		echo
		echo "=== the same with topics of their own"
		serve -mqtt 127.0.0.1:0
		bulk 0 -backend $fake -devices "$work/three.csv" -run "$work/own-$fake" -template "$work/own-topics.json" -connect 3
		says "3 of 3 connected"
		bulk 0 -backend $fake -devices "$work/three.csv" -run "$work/database-$fake" -template "$work/own-topics.json" -keys database -existing add -connect 2
		says "2 of 2 connected"
		echo
	done

	serve -mqtt 127.0.0.1:0
	echo "=== devices with certificates of an own CA, registered under it and without it"
	make_ca line-ca
	jq 'del(.Parameters.CSR) | .Parameters.CertificatePem = {Type: "String"} | .Resources.certificate.Properties = {CertificatePem: {Ref: "CertificatePem"}, Status: "ACTIVE"}' \
		"$work/own-topics.json" >"$work/without-ca.json"
	jq '.Parameters.CACertificatePem = {Type: "String"} | .Resources.certificate.Properties.CACertificatePem = {Ref: "CACertificatePem"}' "$work/without-ca.json" >"$work/under-ca.json"
	bulk 0 -devices "$work/three.csv" -run "$work/under-ca" -template "$work/under-ca.json" -ca-cert "$work/line-ca.pem" -ca-key "$work/line-ca.key" -connect 3
	says "3 of 3 connected"
	issued_by line-ca under-ca device-one device-two device-three
	serve -mqtt 127.0.0.1:0
	bulk 0 -devices "$work/three.csv" -run "$work/without-ca" -template "$work/without-ca.json" -ca-cert "$work/line-ca.pem" -ca-key "$work/line-ca.key" -cert-mode without-ca \
		-keys database -connect 3
	says "3 of 3 connected"

	echo
	echo "=== … and with a first connection that registers them, which is refused by design"
	serve -mqtt 127.0.0.1:0
	local jit=(-run "$work/jit" -ca-cert "$work/line-ca.pem" -ca-key "$work/line-ca.key" -cert-mode jit -jit-template examples/bulkprovision/template-jit.json -keys database)
	bulk 4 -devices "$work/three.csv" "${jit[@]}" -connect 2
	says "2 of 3 devices provisioned, 1 issued" "2 of 2 connected"
	bulk 0 "${jit[@]}" -connect 3
	says "3 of 3 devices provisioned" "3 of 3 connected"
	holds things 3
	holds certificates 3

	echo
	serve -mqtt 127.0.0.1:0
	echo "=== one of them by itself"
	bulk 0 -devices "$work/three.csv" -run "$work/line" -template "$work/own-topics.json"
	local dir=$work/line/devices/device-one topic=devices/device-one/hello
	device 0 "$dir"
	says "reached localhost:" "connected as client device-one" "received \"hello from device-one\""
	device 4 -client-id device-two "$dir"
	says "iot:Connect" "aws iot test-authorization"
	device 5 -topic 'devices/device-two/hello' "$dir"
	says "subscribe" "0x87" "topicfilter/devices/device-two/hello"
	device 3 -endpoint "127.0.0.1:${AWS_ENDPOINT_URL##*:}" "$dir"
	says "does not speak TLS"
	cp -r "$dir" "$work/mixed" && cp "$work/line/devices/device-two/private-key.pem" "$work/mixed/"
	device 1 "$work/mixed"
	says "do not fit together"

	echo
	echo "=== mosquitto's clients with the same folders"
	mosquitto 0 pub device-one device-one -t "$topic" -m hi
	mosquitto 0 sub device-one device-one -t "$topic" -E
	mosquitto 1 pub device-two device-one -t "$topic" -m hi
	mosquitto 1 pub device-one device-one -t devices/device-two/hello -m hi
	out=$(curl -fsS --max-time 300 "$AWS_ENDPOINT_URL/_fake/events?follow=false" | jq -r 'select(.kind == "refused") | .text' | tail -n 2)
	printf '%s\n' "$out"
	says "iot:Connect on client/device-two: no statement" "iot:Publish on topic/devices/device-two/hello: no statement"

	echo
	echo "=== a message from one device to another"
	jq '.Resources.policy.Properties.PolicyDocument = ({Version: "2012-10-17", Statement: {Effect: "Allow", Action: "iot:*", Resource: "*"}} | tojson)' \
		examples/awscli/provisioning-template.json >"$work/anything.json"
	bulk 0 -devices "$work/three.csv" -run "$work/line" -template "$work/own-topics.json" -remove all
	bulk 0 -devices "$work/three.csv" -run "$work/together" -template "$work/anything.json" -connect 1
	dir=$work/together/devices/device-one
	mosquitto 0 pub device-one device-one -t fleet/hello -m "hello from device-one" -r # retained, for whoever asks later
	mosquitto 0 sub device-two device-two -t fleet/hello -C 1 -W 200
	says "hello from device-one"
}

# mosquitto WANT pub|sub CLIENT DEVICE FLAGS… runs mosquitto's client with what is in a device's folder beside $dir.
mosquitto() {
	local want=$1 command=mosquitto_$2 client=$3 files code=0
	files=$(dirname "$dir")/$4
	shift 4
	printf '\n$ %s -i %s %s\n' "$command" "$client" "$*"
	out=$(timeout 300 "$command" -h "${MQTT_ENDPOINT%:*}" -p "${MQTT_ENDPOINT##*:}" --cafile "$files/root-ca.pem" --cert "$files/certificate.pem" \
		--key "$files/private-key.pem" -i "$client" -q 1 "$@" 2>&1) || code=$?
	printf '%s\n(exit %d)\n' "$out" "$code"
	((want == 0 ? code == 0 : code != 0)) || fail "it must $( ((want == 0)) || printf 'not ')succeed"
}

# page answers everything as a proxy does that blocks a host, and sets line to its port.
page() {
	start python3 -c '
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = b"<html><body>Blocked by your network. Reference 42.</body></html>"
        self.send_response(403)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    do_GET = do_HEAD = do_POST = do_PUT = answer
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
print(server.server_port, flush=True)
server.serve_forever()
'
}

newcomer() {
	serve

	echo "=== a list with semicolons, as a German spreadsheet writes it"
	printf 'ThingName;SerialNumber\nboard-1;0001\nboard-2;0002\n' >"$work/semicolons.csv"
	bulk 1 -devices "$work/semicolons.csv" -run "$work/german"
	says "-comma"
	bulk 0 -devices "$work/semicolons.csv" -run "$work/german" -comma ';'
	says "2 of 2 devices provisioned"

	echo
	echo "=== a wrong header, then the right one, in the same folder"
	printf 'Thing Name,SerialNumber\nboard-3,0003\n' >"$work/list.csv"
	bulk 1 -devices "$work/list.csv" -run "$work/header"
	says '"ThingName"'
	printf 'ThingName,SerialNumber\nboard-3,0003\n' >"$work/list.csv"
	bulk 0 -devices "$work/list.csv" -run "$work/header"
	says "1 of 1 device provisioned"

	echo
	echo "=== a list with the requests of the devices, whose keys never left them"
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout "$work/own.pem" -subj /CN=own-1 -out "$work/own.csr" 2>/dev/null
	printf 'ThingName,SerialNumber,CSR\nown-1,0006,"%s"\n' "$(<"$work/own.csr")" >"$work/own.csv"
	bulk 1 -devices "$work/own.csv" -run "$work/requests"
	says '"CSR" is what this run makes itself' "-credential csr"
	bulk 0 -devices "$work/own.csv" -run "$work/requests" -credential csr
	says "1 of 1 device provisioned"
	diff <(openssl x509 -in "$work/requests/devices/own-1/certificate.pem" -noout -pubkey) <(openssl pkey -in "$work/own.pem" -pubout)
	[[ ! -e $work/requests/devices/own-1/private-key.pem ]] || fail "no key must be made"

	echo
	echo "=== a clock that is 40 minutes off, which is corrected"
	list 4 0004 >"$work/four.csv"
	serve -key factory:secret -skew 40m
	bulk 0 -devices "$work/four.csv" -run "$work/clock"
	says "1 of 1 device provisioned"

	echo
	echo "=== a wrong secret key"
	AWS_SECRET_ACCESS_KEY=wrong bulk 1 -devices "$work/four.csv" -run "$work/secret"
	says "their secret access key is not the one of the access key id"

	echo
	echo "=== a proxy's page in place of AWS"
	page
	AWS_ENDPOINT_URL=http://127.0.0.1:$line
	bulk 1 -devices "$work/four.csv" -run "$work/proxy"
	says "a proxy or a login page is in the way"
	setup="" bulk 1 -devices "$work/four.csv" -run "$work/proxy" -role-arn arn:aws:iam::123456789012:role/registration
	says "a proxy or a login page is in the way"
}

# spreadsheet opens failures.csv in LibreOffice and saves it again, as somebody does who mends a value in it.
spreadsheet() {
	serve
	echo "=== a list of which one record is wrong, mended in LibreOffice"
	printf 'ThingName,SerialNumber\nboard-1,0001\nboard 2,0002\n' >"$work/devices.csv"
	bulk 3 -devices "$work/devices.csv" -run "$work/sheet"
	says "1 of 2 devices provisioned, 1 failed"
	cat "$work/sheet/failures.csv"
	mkdir "$work/saved"
	sed -i 's/board 2$/board-2/' "$work/sheet/failures.csv" # the mend; opening and saving is LibreOffice's
	# It may hang so that nothing but KILL ends it, and may end with 0 where it has saved nothing.
	local profile
	profile=$(jq -nr --arg path "$work/office" '"file://" + ($path | split("/") | map(@uri) | join("/"))')
	timeout -k 10 300 soffice --headless "-env:UserInstallation=$profile" --convert-to csv --outdir "$work/saved" "$work/sheet/failures.csv" \
		>"$work/office.log" 2>&1 || fail "LibreOffice failed: $(<"$work/office.log")"
	[[ -s $work/saved/failures.csv ]] || fail "LibreOffice has saved nothing: $(<"$work/office.log")"
	printf '\nas LibreOffice saved it:\n'
	cat "$work/saved/failures.csv"
	bulk 3 -devices "$work/saved/failures.csv" -run "$work/sheet"
	cat "$work/sheet/failures.csv"
	grep -q '"0002"\|""0002""' "$work/sheet/failures.csv" || fail "failures.csv must say that 0002 came back as 2"
	# The column was a number to LibreOffice, which dropped its zeros. Put right, the file is taken.
	sed -i -E 's/,2,/,0002,/; s/,2$/,0002/' "$work/saved/failures.csv"
	bulk 0 -devices "$work/saved/failures.csv" -run "$work/sheet"
	says "2 of 2 devices provisioned"
}

case ${1:-} in
account | newcomer | connect | spreadsheet) "$1" ;;
own-ca) own_ca ;;
*) fail "give account, newcomer, own-ca, connect or spreadsheet" ;;
esac
printf '\neverything as it must be\n'
