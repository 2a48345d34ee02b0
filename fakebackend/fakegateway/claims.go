package fakegateway

import (
	"context"
	"errors"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// Provisioning by claim: what a device asks for on $aws/certificates/ and $aws/provisioning-templates/, in JSON or CBOR.
// The account does it (package fakebackend, claims.go).
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/fleet-provision-api.html

// claim is one operation: what it does for a device whose request could be read. levels are those of the topic that
// stand for a +.
type claim func(ctx context.Context, account wire.Claims, from wire.Device, levels []string, r claimRequest) (answer any, err error)

var claims = map[string]claim{
	"$aws/certificates/create/":                createKeys,
	"$aws/certificates/create-from-csr/":       createFromCSR,
	"$aws/provisioning-templates/+/provision/": provision,
}

func createKeys(ctx context.Context, account wire.Claims, from wire.Device, _ []string, _ claimRequest) (any, error) {
	return issuedAs(account.CreateKeysAndCertificate(ctx, from))
}

func createFromCSR(ctx context.Context, account wire.Claims, from wire.Device, _ []string, r claimRequest) (any, error) {
	return issuedAs(account.CreateCertificateFromCSR(ctx, from, r.CSR))
}

func issuedAs(made *wire.Issued, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return &issuedAnswer{made.CertificateID, made.CertificatePEM, made.PrivateKey.Reveal(), made.Token.Reveal()}, nil
}

func provision(ctx context.Context, account wire.Claims, from wire.Device, levels []string, r claimRequest) (any, error) {
	made, err := account.ProvisionThing(ctx, from, levels[0], r.Token, r.Parameters)
	if err != nil {
		return nil, err
	}
	return &provisionedAnswer{made.DeviceConfiguration, made.ThingName}, nil
}

// claimQuestions are the requests of provisioning by claim that an account answers.
func claimQuestions(account wire.Account) (out []question) {
	for topic, do := range claims {
		for _, f := range formats {
			out = append(out, question{topic + f.name, answerer(account, topic+f.name, do, f)})
		}
	}
	return out
}

// answerer reads a request, does what it asks for, and writes the answer.
func answerer(account wire.Account, pattern string, do claim, f *format) func(context.Context, wire.Device, []string, []byte) (reply, bool) {
	return func(ctx context.Context, from wire.Device, levels []string, payload []byte) (reply, bool) {
		topic := pattern
		for _, level := range levels {
			topic = strings.Replace(topic, "+", level, 1)
		}
		var answer any
		request, err := f.claimRequest(payload)
		if err != nil {
			e := from.Event(wire.EventRefused, "a request on "+topic+": the payload cannot be read: "+err.Error())
			e.Reason = badPayload
			account.Record(e)
			err = &wire.ClaimError{Status: 400, Code: "InvalidParameters", Message: "The payload cannot be read: " + err.Error()}
		} else {
			answer, err = do(ctx, account, from, levels, request)
		}
		outcome := "/accepted"
		if err != nil {
			refusal, ok := errors.AsType[*wire.ClaimError](err)
			if !ok {
				return reply{}, true
			}
			outcome, answer = "/rejected", &rejectedAnswer{refusal.Status, refusal.Code, refusal.Message}
		}
		written, err := f.encode(answer)
		if err != nil { // strings and numbers always encode
			return reply{}, true
		}
		return reply{topic + outcome, written}, false
	}
}

// badPayload is the reason of the event for a payload that is no request.
const badPayload = "payload"
