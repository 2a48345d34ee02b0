package fakebackend

import (
	"crypto/sha256"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
)

// CreateProvisioningClaim.
//
// Models: a certificate with which a device can connect for five minutes and provision itself by the template, and that
// is in no list of certificates. What AWS lets it do is not documented; here it may do what the developer guide allows a
// claim, for this template.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/provision-wo-cert.html#trusted-user

var provisioningClaimOperations = []*operation{
	operationOf("CreateProvisioningClaim", "POST /provisioning-templates/{templateName}/provisioning-claim", (*account).createProvisioningClaim),
}

// temporaryClaimLife is how long the certificate of CreateProvisioningClaim is good.
const temporaryClaimLife = 5 * time.Minute

type createProvisioningClaimOutput struct {
	CertificateID  string    `json:"certificateId"`
	CertificatePem string    `json:"certificatePem"`
	KeyPair        keyPair   `json:"keyPair"`
	Expiration     time.Time `json:"expiration"`
}

// createProvisioningClaim makes a temporary claim. The key is not kept.
func (b *account) createProvisioningClaim(now time.Time, in *provisioningTemplateInput) (*createProvisioningClaimOutput, *task.Error) {
	t, refusal := b.findTemplate(in.TemplateName)
	switch {
	case refusal != nil:
		return nil, refusal
	case t.kind != typeFleet:
		return nil, refuse(codeInvalidRequest, "The provisioning template %s is not of type %s", t.name, typeFleet)
	}
	expires := stamp(now).Truncate(time.Second).Add(temporaryClaimLife)
	made, err := b.keys.Load().issuer.CreateUntil(now, expires)
	if err != nil {
		return nil, refuse(codeInternalFailure, "%v", err)
	}
	c := &temporaryClaim{template: t.name, expires: expires}
	c.certificate = b.claimCertificate(made.DER, now, t.name)
	b.st.claims.add(c.certificate.id, c)
	return &createProvisioningClaimOutput{
		CertificateID: c.certificate.id.String(), CertificatePem: c.certificate.pem(), Expiration: expires,
		KeyPair: keyPair{made.PublicKeyPEM, restjson.NewSecret(made.PrivateKeyPEM())},
	}, nil
}

// temporaryClaim is a certificate of CreateProvisioningClaim.
type temporaryClaim struct {
	mark
	certificate *certificate // in no table of its own, with a policy in none
	template    string
	expires     time.Time
}

// claimCertificate makes the record of a temporary claim's certificate.
func (b *account) claimCertificate(der []byte, now time.Time, template string) *certificate {
	document := b.claimPolicy(template).String()
	return &certificate{
		id: sha256.Sum256(der), der: der, created: now.UnixMilli(), modified: now.UnixMilli(), version: 1,
		policies: []*policy{{name: "provisioning-claim", standard: 1, next: 1, attached: 1, versions: []policyVersion{{1, document, stamp(now)}}}},
	}
}

// claimPolicy is what the developer guide lets a claim do, for one template.
func (b *account) claimPolicy(template string) document {
	var topics, filters []string
	for _, name := range []string{
		"$aws/certificates/create/*", "$aws/certificates/create-from-csr/*", "$aws/provisioning-templates/" + template + "/provision/*",
	} {
		topics, filters = append(topics, b.arn("topic", name)), append(filters, b.arn("topicfilter", name))
	}
	return document{Statement: []statement{
		{Effect: "Allow", Action: []string{"iot:Connect"}, Resource: []string{b.arn("client", "*")}},
		{Effect: "Allow", Action: []string{"iot:Publish", "iot:Receive"}, Resource: topics},
		{Effect: "Allow", Action: []string{"iot:Subscribe"}, Resource: filters},
	}}
}

// deviceCertificate finds a certificate that a device can connect with: one that is registered, or a temporary claim.
func (b *account) deviceCertificate(id certificateID) (*certificate, bool) {
	if c, ok := b.st.certificates.get(id); ok {
		return c, true
	}
	if c, ok := b.st.claims.get(id); ok {
		return c.certificate, true
	}
	return nil, false
}

// forgetClaims removes temporary claims that have expired, and certificates that devices got by a claim and did not
// provision in time.
func (b *account) forgetClaims(now time.Time) {
	for c := range b.st.claims.all() {
		if now.Before(c.expires) { // all have the same life
			break
		}
		b.st.claims.remove(c.certificate.id)
		b.changed = true
	}
	for o := range b.st.ownerships.all() {
		if now.Before(o.expires) {
			break
		}
		c := o.certificate
		b.st.ownerships.remove(c.id)
		if !o.provisioned && !(c.status == statusActive && len(c.things)+len(c.policies) > 0) {
			b.forgetCertificate(c)
			b.changed = true
		}
	}
}
