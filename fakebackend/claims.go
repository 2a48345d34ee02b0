package fakebackend

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	other "github.com/seed1ff6f450/iotfleet/fakebackend/internal/operation"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// Provisioning by claim: what a device asks for over MQTT with a certificate that many devices share.
//
// Models: certificates that are PENDING_ACTIVATION until a template has run; ownership tokens, good for an hour, after
// which a certificate that was not provisioned is deleted; fleet templates with device configuration and
// pre-provisioning hook, by the template's role. Not modelled: request rates; a fault throttles.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/fleet-provision-api.html

// tokenLife is how long an ownership token is good.
const tokenLife = time.Hour

// certificateIDParameter is the parameter that AWS fills with the id of the certificate.
const certificateIDParameter = "AWS::IoT::Certificate::Id"

// The error codes that have been seen in AWS's answers to claims. Others are the names of the API's exceptions.
const (
	claimInvalidToken      = "InvalidCertificateOwnershipToken"
	claimInvalidParameters = "InvalidParameters"
	claimAccessDenied      = "AccessDenied"
)

// CreateKeysAndCertificate makes a key and a certificate for a device.
func (s served) CreateKeysAndCertificate(ctx context.Context, d wire.Device) (*wire.Issued, error) {
	c := d.(*connection)
	issued, err := s.b.createKeysByClaim(ctx, c)
	return issued, c.claimed("a certificate by claim", err)
}

// CreateCertificateFromCSR makes a certificate for a device's own key.
func (s served) CreateCertificateFromCSR(ctx context.Context, d wire.Device, csr string) (*wire.Issued, error) {
	c := d.(*connection)
	issued, err := s.b.createCertificateByClaim(ctx, c, csr)
	return issued, c.claimed("a certificate by claim", err)
}

// ProvisionThing runs a template for a device.
func (s served) ProvisionThing(ctx context.Context, d wire.Device, template, token string, parameters map[string]string) (*wire.Provisioned, error) {
	c := d.(*connection)
	made, err := s.b.provisionByClaim(ctx, &provisioning{who: c, template: template, token: token, parameters: parameters})
	return made, c.claimed(fmt.Sprintf("the provisioning template %s", restjson.Cut(template)), err)
}

// claimed records why a request has no answer, or which refusal is the answer, and returns the error. What a request has
// done is recorded while it is done: a fault may lose the answer.
func (c *connection) claimed(what string, err error) error {
	if _, ok := errors.AsType[*wire.ClaimError](err); ok {
		c.b.record(Event(c.Event(EventFailed, fmt.Sprintf("%s: %v", what, err))))
	} else if errors.Is(err, task.ErrOutcomeUnknown) {
		_ = c.cut(nil) // the event is what it is for
	}
	return err
}

// claimEvent is an event about a certificate that the device has asked for by its claim.
func (c *connection) claimEvent(kind string, cert *certificate, format string, args ...any) Event {
	e := c.Event(kind, fmt.Sprintf(format, args...)+fmt.Sprintf(", by the claim %s", c.id))
	e.CertificateID = cert.id.String()
	return Event(e)
}

// ownership is a certificate that a device got by a claim, until its token expires.
type ownership struct {
	mark
	certificate *certificate
	claim       certificateID // that it was asked for with
	expires     time.Time
	provisioned bool // a template has run for it
}

// issueByClaim answers the two requests for a certificate. issue makes it, as PENDING_ACTIVATION, with the turn held.
func (b *account) issueByClaim(ctx context.Context, op string, who *connection, issue func(now time.Time) (*certificate, *task.Error)) (*wire.Issued, error) {
	out, err := b.answer(ctx, op, who.hello.ClientID, func() string { return "" }, func(now time.Time) (any, *task.Error) {
		if err := b.mayClaim(who, now); err != nil {
			return nil, err
		}
		c, err := issue(now)
		if err != nil {
			return nil, err
		}
		b.changed = true
		b.st.ownerships.add(c.id, &ownership{certificate: c, claim: who.id, expires: now.Add(tokenLife)})
		b.record(who.claimEvent(EventIssued, c, "the certificate waits for a provisioning template"))
		return &wire.Issued{CertificateID: c.id.String(), CertificatePEM: c.pem(), Token: restjson.NewSecret(b.ownershipToken(c.id))}, nil
	})
	if err != nil {
		return nil, claimError(err)
	}
	return out.(*wire.Issued), nil
}

// createKeysByClaim makes a key and a certificate. The key is not kept.
func (b *account) createKeysByClaim(ctx context.Context, who *connection) (*wire.Issued, error) {
	// Before the turn is taken, since an RSA key takes as long as thousands of other requests.
	made, err := b.keys.Load().issuer.Create(b.clock.now())
	if err != nil {
		return nil, claimError(refuse(codeInternalFailure, "%v", err))
	}
	issued, err := b.issueByClaim(ctx, other.ClaimKeys, who, func(now time.Time) (*certificate, *task.Error) {
		return b.addCertificate(made.DER, sha256.Sum256(made.DER), now, statusPendingActivation), nil
	})
	if err != nil {
		return nil, err
	}
	issued.PrivateKey = restjson.NewSecret(made.PrivateKeyPEM())
	return issued, nil
}

// createCertificateByClaim makes a certificate for the key of a CSR: another one each time.
func (b *account) createCertificateByClaim(ctx context.Context, who *connection, csr string) (*wire.Issued, error) {
	return b.issueByClaim(ctx, other.ClaimCSR, who, func(now time.Time) (*certificate, *task.Error) {
		var check restjson.Checker
		check.Need("certificateSigningRequest", csr, shapeNamed("CertificateSigningRequest"))
		if err := violation(check.Message()); err != nil {
			return nil, err
		}
		return b.issue(csr, now, statusPendingActivation)
	})
}

// mayClaim refuses a connection whose certificate is no longer good.
func (b *account) mayClaim(who *connection, now time.Time) *task.Error {
	c, ok := b.deviceCertificate(who.id)
	if !ok || c.status != statusActive {
		return refuse(codeAccessDenied, "The certificate %s is not active", who.id)
	}
	return nil
}

// provisioning is a request to run a template.
type provisioning struct {
	who        *connection
	template   string
	token      string
	parameters map[string]string

	// What was found for it.
	found   *provisioningTemplate
	program *template.Program
	owned   *ownership
}

// provisionByClaim runs a template.
func (b *account) provisionByClaim(ctx context.Context, p *provisioning) (*wire.Provisioned, error) {
	strike, err := b.faults.request(ctx, other.ClaimProvision, p.who.hello.ClientID)
	if err != nil {
		return nil, claimError(err)
	}
	out, err := b.provision(ctx, p)
	if err := strike.loses(other.ClaimProvision, err); err != nil {
		return nil, claimError(err)
	}
	return out, nil
}

// provision is provisionByClaim without faults. No turn is held while the hook decides, so what was found before is
// looked up once more.
func (b *account) provision(ctx context.Context, p *provisioning) (*wire.Provisioned, error) {
	var request *HookRequest
	check := func() string {
		var c restjson.Checker
		c.Map("parameters", p.parameters, shapeNamed("Parameter"), shapeNamed("Value"))
		return c.Message()
	}
	out, err := b.take(ctx, other.ClaimProvision, check, func(now time.Time) (any, *task.Error) {
		if err := b.find(p, now); err != nil {
			return nil, err
		}
		if p.found.hook != nil {
			request = b.hookRequest(p)
			return p.found.hook.TargetARN, nil
		}
		return b.runTemplate(p, now)
	})
	if err != nil || request == nil {
		made, _ := out.(*wire.Provisioned)
		return made, err
	}
	overrides, err := b.askHook(ctx, out.(string), request)
	if err != nil {
		return nil, err
	}
	p.parameters = maps.Clone(p.parameters)
	if p.parameters == nil {
		p.parameters = make(map[string]string, len(overrides))
	}
	maps.Copy(p.parameters, overrides)
	out, err = b.take(ctx, other.ClaimProvision, check, func(now time.Time) (any, *task.Error) {
		if err := b.find(p, now); err != nil {
			return nil, err
		}
		return b.runTemplate(p, now)
	})
	made, _ := out.(*wire.Provisioned)
	return made, err
}

// find looks up the template and the certificate.
func (b *account) find(p *provisioning, now time.Time) *task.Error {
	if err := b.mayClaim(p.who, now); err != nil {
		return err
	}
	var err *task.Error
	if p.found, p.program, err = b.usableTemplate(p.template, typeFleet); err != nil {
		return err
	}
	p.owned, err = b.ownedBy(p.who, p.token, now)
	return err
}

// usableTemplate finds the template of a type that devices are to be provisioned by, with the program of its default
// version.
func (b *account) usableTemplate(name, kind string) (*provisioningTemplate, *template.Program, *task.Error) {
	t, refusal := b.findTemplate(name)
	switch {
	case refusal != nil:
		return nil, nil, refusal
	case t.kind != kind:
		return nil, nil, refuse(codeInvalidRequest, "The provisioning template %s is of type %s, not %s", t.name, t.kind, kind)
	case !t.enabled:
		return nil, nil, refuse(codeInvalidRequest, "The provisioning template %s is not enabled", t.name)
	}
	program, err := b.programOf(t)
	if err != nil {
		return nil, nil, refuse(codeInvalidRequest, "%s", err)
	}
	return t, program, nil
}

// runTemplate does the work of a template.
func (b *account) runTemplate(p *provisioning, now time.Time) (any, *task.Error) {
	session, err := b.session(p.found.role)
	if err != nil {
		return nil, refuse(codeAccessDenied, "%s", err)
	}
	row := maps.Clone(p.parameters)
	if row == nil {
		row = make(map[string]string, 1)
	}
	row[certificateIDParameter] = p.owned.certificate.id.String() // whatever the device says
	want, err := p.program.Resolve(row)
	if err != nil {
		return nil, refuse(claimInvalidParameters, "%s", resolveText(err))
	}
	thing := p.who.hello.ClientID
	if len(want.Things) > 0 {
		thing = want.Things[0].ThingName
	}
	if err := b.faults.line(StepParse, 0, thing); err != nil {
		return nil, err
	}
	b.changed = true
	w := worker{b: b, at: now, session: session, fleet: true}
	if p.owned.certificate.status == statusPendingActivation {
		w.pending = p.owned.certificate
	} else if want.Certificate != nil { // a device that asks once more does not activate what somebody has deactivated since
		want.Certificate.OverrideStatus = template.DoNothing
	}
	made, refusal := w.carryOut(want)
	if refusal != nil {
		return nil, refusal
	}
	p.owned.provisioned = true
	out := &wire.Provisioned{DeviceConfiguration: want.DeviceConfiguration}
	if made.thing != nil {
		out.ThingName = made.thing.name
	}
	if out.DeviceConfiguration == nil {
		out.DeviceConfiguration = map[string]string{}
	}
	e := p.who.claimEvent(EventProvisioned, p.owned.certificate, "the provisioning template %s was run", p.found.name)
	e.ThingName = out.ThingName
	b.record(e)
	return out, nil
}

// resolveText words the error of a template that could not be filled in, as AWS words it in answers to claims.
func resolveText(err error) string {
	if f, ok := errors.AsType[*finding.Finding](err); ok && f.Rule == template.ErrMissingParameter {
		return "Cannot resolve reference value: " + f.Parameter
	}
	return strings.TrimPrefix(template.AWSMessage(err), "Invalid registration template. ")
}

// ownershipToken is the token that proves ownership of a certificate. Nobody without the account's seed can make it, and
// nothing need be kept.
func (b *account) ownershipToken(id certificateID) string {
	mac := hmac.New(sha256.New, b.keys.Load().seed)
	mac.Write([]byte("certificate ownership token\x00"))
	mac.Write(id[:])
	return base64.RawURLEncoding.EncodeToString(mac.Sum(id[:]))
}

// ownedBy finds the certificate that a token belongs to.
func (b *account) ownedBy(who *connection, token string, now time.Time) (*ownership, *task.Error) {
	if token == "" {
		return nil, refuse(claimInvalidToken, "Certificate ownership token cannot be empty.")
	}
	invalid := refuse(claimInvalidToken, "Certificate ownership token is invalid.")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < len(certificateID{}) {
		return nil, invalid
	}
	id := certificateID(raw[:len(certificateID{})])
	if !hmac.Equal([]byte(token), []byte(b.ownershipToken(id))) {
		return nil, invalid
	}
	o, ok := b.st.ownerships.get(id)
	switch {
	case !ok || !now.Before(o.expires):
		return nil, refuse(claimInvalidToken, "Certificate ownership token has expired.")
	case o.certificate.status == statusRevoked || o.claim != who.id:
		return nil, invalid
	case o.provisioned && b.opts.TokensOnce:
		return nil, refuse(claimInvalidToken, "Certificate ownership token has been used.")
	}
	return o, nil
}

// claimError turns the refusal of a request into the answer to a device. Other errors stay as they are.
func claimError(err error) error {
	refusal, ok := errors.AsType[*task.Error](err)
	if !ok {
		return err
	}
	out := &wire.ClaimError{Status: refusal.Status, Code: strings.TrimSuffix(refusal.Code, "Exception"), Message: refusal.Message}
	if refusal.Err != nil {
		out.Detail = refusal.Err.Error()
	}
	switch refusal.Code {
	case codeInvalidRequest:
		out.Code = claimInvalidParameters
	case codeThrottling:
		out.Status = 429
	}
	return out
}
