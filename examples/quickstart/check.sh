#!/usr/bin/env bash
#
# Runs the quickstart and checks with openssl that each device got what it needs, and that a second run refuses.
#
#	examples/quickstart/check.sh        the README's command as it stands, into fleet-out
#	examples/quickstart/check.sh DIR    into DIR, a folder that does not exist yet
#
# Needs Go, openssl and GNU coreutils and findutils. What the quickstart wrote is left in place.

set -euo pipefail

fail() {
	printf 'check.sh: %s\n' "$*" >&2
	exit 1
}

# The folder as the user named it, before this script moves to the repository's root.
flags=() out=fleet-out
if (($# > 1)); then
	fail "want at most one folder, have $#: $*"
elif (($# == 1)); then
	out=$(realpath -m -- "$1")
	flags=(-out "$out")
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v openssl >/dev/null || fail "needs the openssl command; install the package openssl"
[[ ! -e $out ]] || fail "$out exists already: remove it, or name another folder"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An ordinary umask, so that mode 0600 is the program's doing and not the shell's.
umask 022

# What programs print is compared. bash warns of a locale that the machine does not have.
export LC_ALL=C

# same WHAT WANT HAVE
same() {
	[[ $2 == "$3" ]] || fail "$1: want \"$2\", have \"$3\""
}

# no_secrets FILE: what a program prints ends up in logs.
no_secrets() {
	if grep -nE 'PRIVATE KEY|X-Amz-(Signature|Credential|Security-Token)' "$1" >&2; then
		fail "the line above, printed by the quickstart, gives away a key or a presigned link"
	fi
}

# state: every folder of $out with its mode, every file with its mode, size, time of change and content.
state() {
	(
		cd "$out"
		find . -type d -printf '%P %m\n' -o -printf '%P %y %m %s %T@\n' | sort
		find . -type f -print0 | sort -z | xargs -0 sha256sum
	)
}

echo "== first run"
go run ./examples/quickstart "${flags[@]}" 2>&1 | tee "$work/first" || fail "the quickstart failed"
no_secrets "$work/first"
grep -qi fake "$work/first" || fail "the quickstart does not say that its certificates come from a fake"
# The README shows the output of its command. Ids differ with each run, and so does how often the task is looked at.
shape() {
	sed -E '/^  InProgress /d; s/[0-9a-f]{64}/SHA256/g; s/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/TASK/g; s/[0-9]{8}-[0-9]{6}-[0-9a-f]{8}/RUN/g'
}
if ((${#flags[@]} == 0)); then
	stale=$(sed -n '/^Backend: /,/^```$/p' README.md | grep -vxF -e '  …' -e '```' | shape | grep -vxFf <(shape <"$work/first") || true)
	same "lines of the README that the quickstart does not print" "" "$stale"
fi
check=$(sed -n 's/^Check one: //p' "$work/first")
same "the command that it prints for a check" "$out/device-one/certificate.pem: OK" "$(bash -c "$check" 2>&1 || true)"

echo
echo "== what it wrote"
ca=$out/issuer-ca.pem
[[ -s $ca ]] || fail "no $ca"
devices=(device-one device-two device-three)
for device in "${devices[@]}"; do
	dir=$out/$device
	key=$dir/private-key.pem
	certificate=$dir/certificate.pem
	thing=$dir/thing.json
	for file in "$key" "$certificate" "$thing" "$dir/root-ca.pem"; do
		[[ -s $file ]] || fail "$device: no $file, or it is empty"
	done

	verdict=$(openssl verify -CAfile "$ca" "$certificate" 2>&1) || fail "$device: $verdict"
	same "$device: openssl verify" "$certificate: OK" "$verdict"

	openssl pkey -in "$key" -check -noout >/dev/null || fail "$device: $key is not a sound private key"
	[[ $(openssl pkey -in "$key" -noout -text) == *"(2048 bit"* ]] || fail "$device: the key is not RSA-2048"
	public=$(openssl pkey -in "$key" -pubout)
	same "$device: public key of $certificate" "$public" "$(openssl x509 -in "$certificate" -noout -pubkey)"
	printf '%s\n' "$public" | sha256sum >>"$work/keys"

	same "$device: subject" "subject=CN=MyDept,O=MyOrg,L=Seattle,ST=WA,C=US" \
		"$(openssl x509 -in "$certificate" -noout -subject -nameopt RFC2253)"
	issuer=$(openssl x509 -in "$certificate" -noout -issuer)
	[[ ${issuer,,} == *fake* ]] || fail "$device: the certificate's issuer does not say that it is a fake: $issuer"

	same "$device: mode of $key" 600 "$(stat -c %a "$key")"
	same "$device: mode of $dir" 700 "$(stat -c %a "$dir")"

	# AWS's certificate id is the SHA-256 of the certificate.
	id=$(openssl x509 -in "$certificate" -outform DER | sha256sum | cut -d ' ' -f 1)
	grep -Eq "\"arn:aws:iot:[a-z0-9-]+:[0-9]{12}:thing/$device\"" "$thing" || fail "$device: $thing lacks the thing's ARN"
	grep -Eq "\"arn:aws:iot:[a-z0-9-]+:[0-9]{12}:cert/$id\"" "$thing" || fail "$device: $thing lacks the ARN of certificate $id"
	grep -Eq "\"clientId\": *\"$device\"" "$thing" || fail "$device: $thing lacks the client id"
	grep -Eq '"endpoint": *"[^"]+"' "$thing" || fail "$device: $thing lacks the endpoint"
	grep -Eq '"policyNames": *\[' "$thing" || fail "$device: $thing lacks the names of the policies"
	grep -qi fake "$thing" || fail "$device: $thing does not say that it comes from a fake"
	if grep -q 'PRIVATE KEY' "$thing" "$certificate"; then
		fail "$device: a private key is in a file that is not for it"
	fi
	echo "$device: certificate $id verified, key matches"
done
same "number of different keys" "${#devices[@]}" "$(sort -u "$work/keys" | wc -l)"

echo
echo "== second run into the same folder"
# Built, since go run turns every exit code but 0 into 1.
go build -o "$work/quickstart" ./examples/quickstart
state >"$work/before"
status=0
"$work/quickstart" "${flags[@]}" >"$work/second" 2>&1 || status=$?
cat "$work/second"
same "exit code of the second run" 1 "$status"
state >"$work/after"
diff -u "$work/before" "$work/after" || fail "the second run changed $out (see the difference above)"
no_secrets "$work/second"
grep -qF -- "$(basename "$out")" "$work/second" || fail "the second run's error does not name the folder $out"

echo
echo "== a folder named without -out"
# Taken for nothing, it would leave the keys in another folder than the one that was meant.
status=0
(cd "$work" && ./quickstart elsewhere) 2>&1 || status=$?
same "exit code with an argument that is no flag" 1 "$status"
[[ ! -e $work/elsewhere && ! -e $work/fleet-out ]] || fail "the run that was refused left a folder of keys"

echo
echo "check.sh: all is as it should be"
