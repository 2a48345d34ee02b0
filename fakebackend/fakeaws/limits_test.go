package fakeaws_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
)

func TestEveryLengthIsTakenUpToAWSsLimitAndNotBeyond(t *testing.T) {
	c := inProcess(newBackend(t, fakebackend.Options{}), oneAttempt)
	of := func(n int) *string { return aws.String(strings.Repeat("x", n)) }
	document := func(n int) *string { // of n characters that count
		const head, tail = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"`, `"}`
		return aws.String(head + strings.Repeat("x", n-len(head)-len(tail)-1) + tail + " \n\t}")
	}
	for name, l := range map[string]struct {
		limit int
		send  func(n int) error
	}{
		"thing name": {128, func(n int) error {
			_, err := c.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: of(n)})
			return err
		}},
		"attribute name": {128, func(n int) error {
			_, err := c.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("a"),
				AttributePayload: &iottypes.AttributePayload{Attributes: map[string]string{*of(n): "v"}}})
			return err
		}},
		"attribute value": {800, func(n int) error {
			_, err := c.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("b"),
				AttributePayload: &iottypes.AttributePayload{Attributes: map[string]string{"n": *of(n)}}})
			return err
		}},
		"thing type name": {128, func(n int) error {
			_, err := c.iot.CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: of(n)})
			return err
		}},
		"thing group name": {128, func(n int) error {
			_, err := c.iot.CreateThingGroup(t.Context(), &iot.CreateThingGroupInput{ThingGroupName: of(n)})
			return err
		}},
		"policy name": {128, func(n int) error {
			_, err := c.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: of(n), PolicyDocument: document(200)})
			return err
		}},
		"policy document, white space not counted": {2048, func(n int) error {
			_, err := c.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: document(n)})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.ErrorContains(t, l.send(l.limit+1), "StatusCode: 400")
			assert.NoError(t, l.send(l.limit))
		})
	}
}

func TestAStatusThatNoCertificateCanHaveIsRefused(t *testing.T) {
	c := inProcess(newBackend(t, fakebackend.Options{}), oneAttempt)
	made, err := c.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{})
	require.NoError(t, err)
	for _, status := range []iottypes.CertificateStatus{"ASLEEP", "active", "PENDING_ACTIVATION"} {
		_, err := c.iot.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: made.CertificateId, NewStatus: status})
		assert.ErrorContains(t, err, "InvalidRequestException", status)
	}
	now, err := c.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: made.CertificateId})
	require.NoError(t, err)
	assert.Equal(t, iottypes.CertificateStatusInactive, now.CertificateDescription.Status)
}
