package fakebackend

import (
	"crypto/sha1"
	"fmt"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// worker registers the device of one line, or of one RegisterThing.
//
// The order of work is the one documented for just-in-time provisioning: the certificate is made without being active,
// then the thing, then the policies, then they are attached to the certificate and the certificate to the thing, and at
// last the certificate gets its status. Models: every property of things, certificates and policies, and all
// OverrideSettings. Not modelled: PackageVersions (kept by no registry here) and retries of throttled steps.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/provision-template.html
type worker struct {
	b       *account
	at      time.Time
	task    string        // its id; "" for RegisterThing
	line    int64         // 0 for RegisterThing
	session *iam.Session  // what the role allows; nil allows all
	shared  **outcomeRest // of the line before; nil for RegisterThing
	name    string        // of the thing, for faults
	pending *certificate  // that waits for this template: it is as good as new, whatever the OverrideSettings of its status
	fleet   bool          // by claim, where AWS documents ThingPrincipalType
	undo    []func()      // only with UndoFailedLines
}

// register does the work of one row.
func (w *worker) register(program *template.Program, row map[string]string) (outcome, *task.Error) {
	want, err := program.Resolve(row)
	if err != nil {
		return outcome{}, refuse(codeInvalidRequest, "%s", template.AWSMessage(err))
	}
	return w.carryOut(want)
}

// carryOut does what a template asks for one device. On failure what earlier steps made stays, unless the fake is told to
// undo it.
func (w *worker) carryOut(want *template.Resolution) (outcome, *task.Error) {
	if len(want.Things) > 0 {
		w.name = want.Things[0].ThingName
	}
	made, refusal := w.steps(want)
	if refusal != nil {
		for i := len(w.undo) - 1; i >= 0; i-- {
			w.undo[i]()
		}
		return outcome{}, refusal
	}
	return made, nil
}

func (w *worker) steps(want *template.Resolution) (made outcome, err *task.Error) {
	var certExisted bool
	made.rest = new(outcomeRest)
	if err := w.strike(StepCertificate); err != nil {
		return made, err
	}
	if want.Certificate != nil {
		made.rest.certificateName = want.Certificate.LogicalName
		if made.certificate, certExisted, err = w.certificate(want.Certificate); err != nil {
			return made, err
		}
	}
	for i := range want.Things {
		spec := &want.Things[i]
		t, err := w.thing(spec)
		if err != nil {
			return made, err
		}
		if i == 0 {
			made.rest.thingName, made.thing = spec.LogicalName, t
			continue
		}
		made.rest.moreNames = append(made.rest.moreNames, spec.LogicalName)
		made.rest.moreThings = append(made.rest.moreThings, t)
	}
	attach, err := w.policies(want.Policies, made.rest)
	if err != nil {
		return made, err
	}
	if err := w.strike(StepAttachPolicy); err != nil {
		return made, err
	}
	if c := made.certificate; c != nil {
		for _, p := range attach {
			if err := w.attachPolicy(p, c); err != nil {
				return made, err
			}
		}
	}
	if err := w.strike(StepAttachCertificate); err != nil {
		return made, err
	}
	if c := made.certificate; c != nil {
		exclusive := w.fleet && want.Certificate.ThingPrincipalType == exclusiveThing
		if made.thing != nil {
			if err := w.attachThing(made.thing, c, exclusive); err != nil {
				return made, err
			}
		}
		for _, t := range made.rest.moreThings {
			if err := w.attachThing(t, c, exclusive); err != nil {
				return made, err
			}
		}
	}
	if err := w.strike(StepActivate); err != nil {
		return made, err
	}
	if made.certificate != nil {
		if err := w.activate(made.certificate, want.Certificate, certExisted); err != nil {
			return made, err
		}
	}
	if w.shared != nil {
		if *w.shared != nil && made.rest.equal(*w.shared) {
			made.rest = *w.shared
		}
		*w.shared = made.rest
	}
	return made, w.strike(StepReport)
}

// strike lets a fault end the line before a step.
func (w *worker) strike(step Step) *task.Error { return w.b.faults.line(step, w.line, w.name) }

// onUndo notes how to take back what was just made.
func (w *worker) onUndo(f func()) {
	if w.b.opts.UndoFailedLines {
		w.undo = append(w.undo, f)
	}
}

// allowed refuses an action that the role does not allow, in AWS's words. An empty kind stands for no resource in
// particular. A RegisterThing has no role, and is allowed everything.
func (w *worker) allowed(action, kind, name string) *task.Error {
	if w.session == nil {
		return nil
	}
	resource := "*"
	if kind != "" {
		resource = w.b.arn(kind, name)
	}
	if w.session.Allows(action, resource) {
		return nil
	}
	return refuse(codeAccessDenied, "User: %s is not authorized to perform: %s on resource: %s", w.b.assumed(w.session), action, resource)
}

// certificate makes, registers or looks up the certificate. One that is new is inactive until the last step.
func (w *worker) certificate(spec *template.CertificateSpec) (c *certificate, existed bool, err *task.Error) {
	switch {
	case spec.CertificateSigningRequest != "":
		if err := w.allowed("iot:CreateCertificateFromCsr", "", ""); err != nil {
			return nil, false, err
		}
		var check restjson.Checker
		check.Need("certificateSigningRequest", spec.CertificateSigningRequest, shapeNamed("CertificateSigningRequest"))
		if err := violation(check.Message()); err != nil {
			return nil, false, err
		}
		c, err = w.b.issue(spec.CertificateSigningRequest, w.at, statusInactive)
	case spec.CertificatePEM != "":
		c, existed, err = w.registerCertificate(spec)
	default:
		return w.lookUpCertificate(spec.CertificateID)
	}
	if err == nil && !existed {
		w.onUndo(func() { w.b.forgetCertificate(c) })
	}
	return c, existed, err
}

func (w *worker) registerCertificate(spec *template.CertificateSpec) (*certificate, bool, *task.Error) {
	signed, err := w.b.readDeviceCertificate(spec.CertificatePEM, spec.CACertificatePEM)
	action := "iot:RegisterCertificate"
	if err == nil && signed.ca == nil {
		action = registerWithoutCA
	}
	if err := w.allowed(action, "", ""); err != nil {
		return nil, false, err
	}
	if err != nil {
		return nil, false, err
	}
	if c, ok := w.b.st.certificates.get(signed.id); ok {
		if spec.OverrideStatus == "" {
			return nil, false, certificateExists()
		}
		return c, true, nil
	}
	return w.b.addSigned(signed, w.at, statusInactive), false, nil
}

func (w *worker) lookUpCertificate(id string) (*certificate, bool, *task.Error) {
	var check restjson.Checker
	check.Need("certificateId", id, shapeNamed("CertificateId"))
	if err := violation(check.Message()); err != nil {
		return nil, false, err
	}
	if err := w.allowed("iot:DescribeCertificate", "cert", strings.ToLower(id)); err != nil {
		return nil, false, err
	}
	c, err := w.b.findCertificate(id)
	return c, c != w.pending, err
}

// policies makes the policies that have a document, and looks up those that have a name. Only the former get into the
// result.
func (w *worker) policies(specs []template.PolicySpec, made *outcomeRest) (attach []*policy, err *task.Error) {
	if err := w.strike(StepPolicy); err != nil {
		return nil, err
	}
	for _, spec := range specs {
		var p *policy
		if spec.PolicyDocument == "" {
			var c restjson.Checker
			c.Need("policyName", spec.PolicyName, shapeNamed("PolicyName"))
			if err := violation(c.Message()); err != nil {
				return nil, err
			}
			if err := w.allowed("iot:GetPolicy", "policy", spec.PolicyName); err != nil {
				return nil, err
			}
			if p, err = w.b.findPolicy(spec.PolicyName); err != nil {
				return nil, err
			}
		} else {
			if p, err = w.policyOfDocument(spec.PolicyDocument); err != nil {
				return nil, err
			}
			made.policyNames = append(made.policyNames, spec.LogicalName)
			made.policies = append(made.policies, p)
		}
		attach = append(attach, p)
	}
	return attach, nil
}

// policyName is 40 upper-case hex digits, the form that AWS's documentation shows. What AWS hashes, and how, is not
// known, so no client may depend on the digits.
func (w *worker) policyName(document string) string {
	if w.b.opts.PolicyPerLine {
		document += fmt.Sprintf("\n%s/%d", w.task, w.line)
	}
	return fmt.Sprintf("%X", sha1.Sum([]byte(document)))
}

// policyOfDocument finds or makes the policy of a document. Its name depends on the document, so that lines share it.
func (w *worker) policyOfDocument(document string) (*policy, *task.Error) {
	name := w.policyName(document)
	if p, ok := w.b.st.policies.get(name); ok {
		return p, nil
	}
	if err := w.allowed("iot:CreatePolicy", "policy", name); err != nil {
		return nil, err
	}
	var c restjson.Checker
	c.Need("policyName", name, shapeNamed("PolicyName"))
	if err := violation(c.Message()); err != nil {
		return nil, err
	}
	p, err := w.b.newPolicy(name, document, w.at)
	if err == nil {
		w.onUndo(func() { w.b.st.policies.remove(name) })
	}
	return p, err
}

func (w *worker) attachPolicy(p *policy, c *certificate) *task.Error {
	if err := w.allowed("iot:AttachPolicy", "cert", c.id.String()); err != nil {
		return err
	}
	added, err := w.b.attachPolicyTo(p, &c.policies)
	if added {
		w.onUndo(func() { w.b.detachPolicyFrom(p, &c.policies) })
	}
	return err
}

func (w *worker) attachThing(t *thing, c *certificate, exclusive bool) *task.Error {
	if err := w.allowed("iot:AttachThingPrincipal", "thing", t.name); err != nil {
		return err
	}
	added, err := w.b.attachCertificate(t, c, exclusive)
	if added {
		w.onUndo(func() { w.b.detachCertificate(t, c) })
	}
	return err
}

// activate sets the template's status on the certificate: always on one that is new, and on one that existed as the
// OverrideSettings allow.
func (w *worker) activate(c *certificate, spec *template.CertificateSpec, existed bool) *task.Error {
	status, ok := parseCertStatus(spec.Status)
	if !ok {
		return refuse(codeInvalidRequest, "Invalid registration template. Certificate status %s is neither ACTIVE nor INACTIVE.", spec.Status)
	}
	if existed {
		switch spec.OverrideStatus {
		case template.DoNothing:
			return nil
		case template.Fail:
			if c.status != status || !w.b.opts.FailOnlyIfDifferent {
				return conflict("Status", "certificate", c.id.String())
			}
		}
	}
	if c.status == status {
		return nil
	}
	if err := w.allowed("iot:UpdateCertificate", "cert", c.id.String()); err != nil {
		return err
	}
	oldStatus, oldModified := c.status, c.modified
	w.onUndo(func() { c.status, c.modified = oldStatus, oldModified })
	c.status = status
	if existed {
		c.modified = w.at.UnixMilli()
	}
	return nil
}
