#!/usr/bin/env bash
#
# Shows that devices from the quickstart can connect: a real MQTT broker, mosquitto, lets in who has a certificate from
# the fake's CA and the key that belongs to it, and nobody else.
#
#	examples/mqtt/check.sh
#
# Needs bash 4.4, Go, openssl, GNU coreutils, and mosquitto 2.0 or later with its clients mosquitto_pub and mosquitto_sub.
# Keeps nothing.

set -euo pipefail

fail() {
	printf 'check.sh: %s\n' "$*" >&2
	if [[ -s ${log:-} ]]; then
		sed 's/^/  mosquitto: /' "$log" >&2
	fi
	exit 1
}

PATH=$PATH:/usr/sbin # where Debian has mosquitto, which is not in everybody's path
for tool in go openssl mosquitto mosquitto_pub mosquitto_sub timeout; do
	command -v "$tool" >/dev/null || fail "needs the command $tool, which is not installed"
done
work=$(mktemp -d)
broker=
stop_broker() {
	if [[ -n $broker ]]; then
		kill "$broker" 2>/dev/null || true
		wait "$broker" 2>/dev/null || true
		broker=
	fi
}
trap 'stop_broker; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
umask 077

echo "== three devices"
go run ./examples/quickstart -out "$work/fleet" >"$work/quickstart.log" 2>&1 || fail "the quickstart failed: $(cat "$work/quickstart.log")"
grep "devices provisioned" "$work/quickstart.log"

echo "== a broker that wants a certificate from the fake's CA"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/broker.key" -out "$work/broker.crt" \
	-days 1 -subj /CN=broker -addext subjectAltName=IP:127.0.0.1 2>"$work/openssl.log" || fail "$(cat "$work/openssl.log")"

# start_broker PORT starts mosquitto and returns once it runs; it fails if mosquitto does not, as when the port is taken.
start_broker() {
	cat >"$work/mosquitto.conf" <<-END
		listener $1 127.0.0.1
		certfile $work/broker.crt
		keyfile $work/broker.key
		cafile $work/fleet/issuer-ca.pem
		require_certificate true
		# The certificate's common name is the user name, so no password is asked for.
		use_identity_as_username true
		# As root, mosquitto would become user mosquitto, who can't read these files.
		user $(id -un)
	END
	log=$work/mosquitto-$1.log
	: >"$log"
	mosquitto -v -c "$work/mosquitto.conf" >"$log" 2>&1 &
	broker=$!
	for _ in {1..100}; do
		! grep -q ' running$' "$log" || return 0
		kill -0 "$broker" 2>/dev/null || break
		sleep 0.1
	done
	stop_broker
	return 1
}

for ((try = 1; ; try++)); do
	((try <= 10)) || fail "mosquitto did not start on any of 10 ports"
	port=$((10000 + RANDOM % 20000)) # mosquitto can't pick a free port by itself
	if start_broker "$port"; then
		break
	fi
done
echo "mosquitto on 127.0.0.1:$port"

# with CLIENT COMMAND… runs mosquitto_pub or mosquitto_sub against the broker, as a client of that name.
with() {
	local client=$1 command=$2
	shift 2
	timeout 30 "$command" -h 127.0.0.1 -p "$port" --cafile "$work/broker.crt" -i "$client" "$@"
}
device() {
	with "$1" "$2" --cert "$work/fleet/$1/certificate.pem" --key "$work/fleet/$1/private-key.pem" "${@:3}"
}

echo "== device-one publishes, device-two receives"
# Retained, so that the broker still has it when device-two asks.
device device-one mosquitto_pub -t fleet/hello -m "hello from device-one" -q 1 -r || fail "device-one could not publish"
got=$(device device-two mosquitto_sub -t 'fleet/#' -q 1 -C 1 -W 20) || fail "device-two received nothing within 20 s"
[[ $got == "hello from device-one" ]] || fail "device-two received \"$got\""
echo "device-two received \"$got\""
grep -q "as device-one .*u'MyDept'" "$log" || fail "the broker does not know device-one by the name in its certificate"

# refused CLIENT REASON [OPTION…]: the client can't publish, and the broker's log has the reason.
refused() {
	local client=$1 reason=$2
	if with "$client" mosquitto_pub -t fleet/forged -m "hello from $client" -q 1 "${@:3}" 2>"$work/$client.log"; then
		fail "$client could publish"
	fi
	# The broker may be a moment behind the client that it hung up on.
	for _ in {1..50}; do
		! grep -q "$reason" "$log" || break
		sleep 0.1
	done
	grep -m 1 "$reason" "$log" || fail "$client was turned away, but the broker does not say \"$reason\""
	! grep -q "as $client " "$log" || fail "the broker let $client in"
}

echo "== a client without a certificate"
refused stranger "peer did not return a certificate"

echo "== device-one's own key, with a certificate from another CA of the same name"
ca_name=$(openssl x509 -in "$work/fleet/issuer-ca.pem" -noout -subject -nameopt compat)
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/other-ca.key" -out "$work/other-ca.crt" \
		-days 1 -subj "${ca_name#subject=}"
	openssl req -new -key "$work/fleet/device-one/private-key.pem" -subj /O=MyOrg/CN=MyDept -out "$work/forged.csr"
	openssl x509 -req -in "$work/forged.csr" -CA "$work/other-ca.crt" -CAkey "$work/other-ca.key" -days 1 -out "$work/forged.crt"
} 2>"$work/openssl.log" || fail "$(cat "$work/openssl.log")"
refused forger "certificate verify failed" --cert "$work/forged.crt" --key "$work/fleet/device-one/private-key.pem"

echo "check.sh: devices with a certificate connect, others do not"
