package fakebackend

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	other "github.com/seed1ff6f450/iotfleet/fakebackend/internal/operation"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/template"
)

// Just-in-time registration and provisioning: what the first connection with a certificate of a registered CA does.
//
// Models: certificates that become PENDING_ACTIVATION, with the message that AWS publishes each time that such a
// certificate is shown; templates of the CA, given by body or by name, run with the permissions of their role. The
// connection is refused in any case. Not modelled: the time that AWS takes, and the rates that it allows.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/auto-register-device-cert.html and
// https://docs.aws.amazon.com/iot/latest/developerguide/jit-provisioning.html

// introduce does what a connection with a certificate sets off that is unknown, or PENDING_ACTIVATION. known is nil for
// the former. Before the connection was let do it, introduce returns the operation to be let do.
func (c *connection) introduce(known *certificate, now time.Time) (refused *wire.Refused, ask string) {
	ca := c.issuer(known)
	switch {
	case c.hello.Protocol == wire.ProtocolHTTPS, ca == nil, known == nil && !ca.registers():
		return c.unintroduced(known, ca), ""
	case now.Before(c.cert.NotBefore), now.After(c.cert.NotAfter):
		return c.outdated(now), ""
	case !c.namesEndpoint() && (ca.mode == modeSNIOnly || known == nil && !c.sends(ca)):
		return c.refused(wire.WrongServerName, "the device %s in the TLS handshake instead of %s, so no account is looked for that has the CA of its certificate",
			c.named(), c.b.host()), ""
	}
	provisions := ca.registers() && ca.config.provisions() && !(known != nil && c.b.opts.ProvisionOnce)
	ask = other.JustInTimeRegistration
	if provisions {
		ask = other.JustInTimeProvisioning
	}
	if c.let != ask {
		return nil, ask
	}
	c.b.changed = true
	reason := wire.PendingActivation
	cert := known
	if known == nil {
		reason = wire.JustRegistered
		cert = c.b.addSigned(&signedCertificate{c.cert.Raw, c.id, ca}, now, statusPendingActivation)
	}
	message := c.b.registeredMessage(cert, known == nil, now)
	if provisions {
		refused = c.provisionNow(cert, ca, now)
	} else {
		e := c.Event(EventRegistered, fmt.Sprintf("the certificate %s of the CA %s is %s", cert.id, ca.id, cert.status))
		e.Reason, e.CACertificateID = reason, ca.id.String()
		c.b.record(Event(e))
		refused = &wire.Refused{Reason: reason, Text: e.Text}
	}
	refused.Messages = []wire.Message{message}
	return refused, ""
}

// registers reports whether the CA registers certificates at their first connection.
func (c *caCertificate) registers() bool { return c.active && c.auto }

// provisions reports whether a template goes with a CA's registration.
func (r *registrationConfig) provisions() bool {
	return r != nil && (r.TemplateBody != "" || r.TemplateName != "")
}

// issuer is the registered CA that has signed the device's certificate. Of several it is the one that the device sent
// along, or else the first that registers certificates.
func (c *connection) issuer(known *certificate) (best *caCertificate) {
	if known != nil {
		return known.ca
	}
	for ca := range c.b.signersOf(c.cert) {
		if c.sends(ca) {
			return ca
		}
		if best == nil || !best.registers() && ca.registers() {
			best = ca
		}
	}
	return best
}

// sends reports whether the device sent a CA's certificate along with its own.
func (c *connection) sends(ca *caCertificate) bool {
	return slices.ContainsFunc(c.hello.Chain[1:], func(der []byte) bool { return slices.Equal(der, ca.der) })
}

// unintroduced refuses a certificate that sets off nothing.
func (c *connection) unintroduced(known *certificate, ca *caCertificate) *wire.Refused {
	switch {
	case known != nil:
		return c.refused(wire.PendingActivation, "the certificate %s is %s", c.id, known.status)
	case ca == nil:
		return c.refused(wire.UnknownCertificate, "the certificate %s is not registered in this account, and none of its CAs has signed it", c.id)
	case !ca.active:
		return c.refused(wire.UnknownCertificate, "the certificate %s is not registered in this account, and the CA %s, which has signed it, is INACTIVE", c.id, ca.id)
	case !ca.auto:
		return c.refused(wire.UnknownCertificate, "the certificate %s is not registered in this account, and automatic registration is off for the CA %s, which has signed it", c.id, ca.id)
	}
	return c.refused(wire.UnknownCertificate, "the certificate %s is not registered in this account; a request over HTTPS does not register it", c.id)
}

// registeredEvent is the message about a certificate that waits to be activated. The members are in AWS's order.
type registeredEvent struct {
	CertificateID         string  `json:"certificateId"`
	CACertificateID       string  `json:"caCertificateId"`
	Timestamp             int64   `json:"timestamp"` // milliseconds
	CertificateStatus     string  `json:"certificateStatus"`
	AWSAccountID          string  `json:"awsAccountId"`
	RegistrationTimestamp *string `json:"certificateRegistrationTimestamp"` // milliseconds; null the first time
}

// registeredMessage makes the message about a certificate. It is made before a template runs.
func (b *account) registeredMessage(c *certificate, first bool, now time.Time) wire.Message {
	e := registeredEvent{
		CertificateID: c.id.String(), CACertificateID: c.ca.id.String(), Timestamp: now.UnixMilli(), CertificateStatus: c.status.String(),
		AWSAccountID: b.opts.Account,
	}
	if !first {
		e.RegistrationTimestamp = new(strconv.FormatInt(c.created, 10))
	}
	payload, _ := json.Marshal(e) // strings and numbers always encode
	return wire.Message{Topic: "$aws/events/certificates/registered/" + e.CACertificateID, Payload: payload}
}

// provisionNow runs the template of a CA for a certificate that is PENDING_ACTIVATION.
func (c *connection) provisionNow(cert *certificate, ca *caCertificate, now time.Time) *wire.Refused {
	e := c.Event(EventProvisioned, "")
	e.CACertificateID = ca.id.String()
	var err error
	e.ThingName, err = c.runCATemplate(cert, ca.config, now)
	refused := &wire.Refused{Reason: wire.JustProvisioned}
	switch {
	case err != nil:
		e.Kind, refused.Reason = EventFailed, wire.ProvisioningFailed
		e.Text = fmt.Sprintf("the certificate %s stays %s, since the template of the CA %s failed: %v", cert.id, cert.status, ca.id, err)
	case cert.status != statusActive:
		e.Text = fmt.Sprintf("the template of the CA %s was run, and left the certificate %s %s", ca.id, cert.id, cert.status)
	default:
		e.Text = fmt.Sprintf("the template of the CA %s was run, and the certificate %s is %s: the device has to connect again", ca.id, cert.id, cert.status)
	}
	e.Reason, refused.Text = refused.Reason, e.Text
	c.b.record(Event(e))
	return refused
}

// runCATemplate runs a CA's template for a certificate, and returns the name of its thing as far as it is known. What its
// steps made before one failed stays.
func (c *connection) runCATemplate(cert *certificate, config *registrationConfig, now time.Time) (thingName string, err error) {
	program, session, err := c.b.caTemplate(config)
	if err != nil {
		return "", err
	}
	want, err := program.Resolve(template.CertificateRow(c.cert))
	if err != nil {
		return "", errors.New(template.AWSMessage(err))
	}
	w := worker{b: c.b, at: now, session: session, pending: cert}
	if len(want.Things) > 0 {
		thingName = want.Things[0].ThingName
	}
	refusal := c.b.faults.line(StepParse, 0, thingName)
	if refusal == nil {
		_, refusal = w.carryOut(want)
	}
	if refusal != nil {
		return thingName, fmt.Errorf("%s: %s", refusal.Code, refusal.Message)
	}
	return thingName, nil
}

// caTemplate finds the template of a CA, and takes on its role.
func (b *account) caTemplate(config *registrationConfig) (program *template.Program, session *iam.Session, err error) {
	role := config.RoleARN
	if config.TemplateName == "" {
		program, err = b.compileAs(template.JITP, config.TemplateBody)
	} else {
		t, found, refusal := b.usableTemplate(config.TemplateName, typeJITP)
		if refusal != nil {
			return nil, nil, errors.New(refusal.Message)
		}
		role, program = t.role, found
	}
	if err == nil {
		session, err = b.session(role)
	}
	return program, session, err
}
