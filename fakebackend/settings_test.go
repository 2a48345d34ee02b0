package fakebackend_test

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestOptionsThatCannotBeAreRefusedByName(t *testing.T) {
	for name, opts := range map[string]fakebackend.Options{
		"LinkLife is 168h0m1s": {LinkLife: 7*24*time.Hour + time.Second}, "LinkLife is 999ms": {LinkLife: 999 * time.Millisecond},
		"Options.Bucket: InvalidBucketName": {Bucket: "Fleet_A"},
		"Account":                           {Account: "12"}, "Region": {Region: "EU Central"}, "Bucket": {Bucket: "a b"}, "Rate": {Rate: -1}, "StartDelay": {StartDelay: -1},
		"LinesPerReport": {LinesPerReport: -1}, "PageSize": {PageSize: 251}, "IssuerKey": {IssuerKey: "ed25519"},
		"ExistingThing": {ExistingThing: "MERGE"}, "BadInput": {BadInput: "later"}, "StopDelay": {StopDelay: -time.Second},
	} {
		_, err := fakebackend.New(opts)
		require.ErrorContains(t, err, name)
	}
}

func TestALinkOfTheLongestLifeCanBeFollowed(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{LinkLife: 7 * 24 * time.Hour})
	id := start(t, fake, role, walkthrough(t), fixedRows[0])
	assert.Len(t, results(t, fake, id), 1)
}

func TestTheIssuerIsAFakeUnlessToldToLookLikeAWS(t *testing.T) {
	issuerOf := func(opts fakebackend.Options) *x509.Certificate {
		fake, err := fakebackend.New(opts)
		require.NoError(t, err)
		block, _ := pem.Decode(fake.CA())
		ca, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		return ca
	}
	assert.Contains(t, issuerOf(fakebackend.Options{}).Subject.OrganizationalUnit[0], "fake")
	ca := issuerOf(fakebackend.Options{IssuerName: fakebackend.AWSIssuerName, IssuerKey: fakebackend.RSA2048, Seed: []byte("a")})
	assert.Equal(t, []string{"Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"}, ca.Subject.OrganizationalUnit)
	assert.Equal(t, 2048, ca.PublicKey.(*rsa.PublicKey).N.BitLen())
}

func TestThePartitionFollowsTheRegion(t *testing.T) {
	for region, partition := range map[string]string{"cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov",
		"eu-central-1": "aws", "eusc-de-east-1": "aws-eusc", "us-isob-east-1": "aws-iso-b"} {
		fake, role := newFake(t, fakebackend.Options{Region: region})
		who, err := fake.Identity(t.Context())
		require.NoError(t, err)
		assert.Equal(t, &task.Identity{Partition: partition, Account: "123456789012", Region: region, Fake: true}, who)
		id := start(t, fake, role, walkthrough(t), fixedRows[0])
		lines := results(t, fake, id)
		require.Len(t, lines, 1)
		assert.Equal(t, fmt.Sprintf("arn:%s:iot:%s:123456789012:thing/fixed-0", partition, region), lines[0].Response.ResourceARNs.Thing())
		host, err := fake.DataEndpoint(t.Context())
		require.NoError(t, err)
		assert.Regexp(t, `^[a-z0-9]{14}`+map[bool]string{true: `\.`, false: "-"}[partition == "aws-cn"]+`ats\.iot\.`+region+`\.(amazonaws\.(com|com\.cn|eu)|sc2s\.sgov\.gov)$`, host)
	}
}

func TestEachGuessCanBeSetTheOtherWay(t *testing.T) {
	run := func(t *testing.T, opts fakebackend.Options, body string, lines ...string) (*fakebackend.Backend, task.ID) {
		fake, role := newFake(t, opts)
		return fake, start(t, fake, role, body, lines...)
	}
	t.Run("StopEndedCode", func(t *testing.T) {
		fake, id := run(t, fakebackend.Options{StopEndedCode: "InvalidRequestException"}, walkthrough(t), fixedRows[0])
		describe(t, fake, id)
		require.ErrorIs(t, fake.StopTask(t.Context(), id), task.ErrInvalidRequest)
		assert.Equal(t, task.Completed, describe(t, fake, id).Status)
	})
	t.Run("NoReportsWhenCancelled", func(t *testing.T) {
		fake, id := run(t, fakebackend.Options{NoReportsWhenCancelled: true, Rate: 1}, walkthrough(t), fixedRows...)
		fake.Advance(2 * time.Second)
		assert.Len(t, results(t, fake, id), 2)
		require.NoError(t, fake.StopTask(t.Context(), id))
		assert.Empty(t, results(t, fake, id))
	})
	t.Run("UnknownTaskReportsCode", func(t *testing.T) {
		fake, _ := newFake(t, fakebackend.Options{UnknownTaskReportsCode: "InvalidRequestException"})
		_, err := fake.ListReports(t.Context(), "nothing", task.ErrorsReport, "")
		require.ErrorIs(t, err, task.ErrInvalidRequest)
	})
	t.Run("OldEndpointTypes", func(t *testing.T) {
		for old, want := range map[bool]string{false: "InvalidRequestException", true: ""} {
			fake, _ := newFake(t, fakebackend.Options{OldEndpointTypes: old})
			for _, kind := range []string{"iot:Data", "iot:Jobs"} {
				_, err := api(fake).DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{EndpointType: new(kind)})
				assert.Equal(t, want, codeOf(err), kind)
			}
		}
	})
	t.Run("UnknownTypeCode", func(t *testing.T) {
		typed := `{"Parameters":{"ThingName":{"Type":"String"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{` +
			`"ThingName":{"Ref":"ThingName"},"ThingTypeName":"nothing"}}}}`
		for set, want := range map[string]string{"": "ResourceRegistrationFailureException", "ResourceNotFoundException": "ResourceNotFoundException"} {
			fake, id := run(t, fakebackend.Options{UnknownTypeCode: set, ErrorCodes: true}, typed, fixedRows[0])
			got := failures(t, fake, id)
			require.Len(t, got, 1)
			assert.Equal(t, want, got[0].ErrorCode)
			assert.Contains(t, got[0].ErrorMessage, "Thing Type 123456789012:nothing not found")
		}
	})
	t.Run("OldestFirst", func(t *testing.T) {
		fake, first := run(t, fakebackend.Options{OldestFirst: true, PageSize: 1}, walkthrough(t), fixedRows[0])
		role, err := fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration"})
		require.NoError(t, err)
		start(t, fake, role, walkthrough(t), fixedRows[1])
		page, err := fake.ListTasks(t.Context(), &task.ListInput{})
		require.NoError(t, err)
		assert.Equal(t, []task.ID{first}, page.IDs)
		assert.NotEmpty(t, page.NextToken)
	})
	t.Run("PlainErrors and ErrorCodes", func(t *testing.T) {
		fake, id := run(t, fakebackend.Options{PlainErrors: true, ErrorCodes: true}, walkthrough(t), `{"CSR":"x","SerialNumber":"1"}`)
		assert.Equal(t, []reportLine{{
			LineNumber: 1, ErrorCode: "InvalidRequestException",
			ErrorMessage: "Invalid registration template. Cannot resolve reference value: {Ref=ThingName}",
		}}, failures(t, fake, id))
	})
	t.Run("PolicyARNKey", func(t *testing.T) {
		fake, id := run(t, fakebackend.Options{PolicyARNKey: "PolicyLogicalName"}, walkthrough(t), fixedRows[0])
		assert.Contains(t, results(t, fake, id)[0].Response.ResourceARNs, "PolicyLogicalName")
	})
	t.Run("PolicyPerLine", func(t *testing.T) {
		for perLine, policies := range map[bool]int{false: 1, true: 4} {
			fake, role := newFake(t, fakebackend.Options{PolicyPerLine: perLine})
			for range 2 {
				id := start(t, fake, role, walkthrough(t), fixedRows[:2]...)
				require.Len(t, results(t, fake, id), 2)
			}
			assert.Equal(t, policies, fake.Counts().Policies)
		}
	})
	t.Run("EmptyIsMissing", func(t *testing.T) {
		for set, want := range map[bool]string{false: "", true: "fallback"} {
			body := `{"Parameters":{"N":{"Type":"String"},"V":{"Type":"String","Default":"fallback"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing",` +
				`"Properties":{"ThingName":{"Ref":"N"},"AttributePayload":{"a":{"Ref":"V"}}}}}}`
			fake, _ := run(t, fakebackend.Options{EmptyIsMissing: set}, body, `{"N":"device","V":""}`)
			fake.Counts()
			device, ok := fake.Thing("device")
			require.True(t, ok)
			assert.Equal(t, want, device.Attributes["a"])
		}
	})
	t.Run("AllowFunctions", func(t *testing.T) {
		body := `{"Parameters":{"N":{"Type":"String"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["-",["a",{"Ref":"N"}]]}}}}}`
		fake, role := newFake(t, fakebackend.Options{})
		_, err := fake.StartTask(t.Context(), &task.StartInput{TemplateBody: body, InputFileBucket: "iotfleet-fake", InputFileKey: "x", RoleARN: role})
		require.ErrorIs(t, err, task.ErrInvalidRequest)
		fake, id := run(t, fakebackend.Options{AllowFunctions: true}, body, `{"N":"device"}`)
		assert.Equal(t, "arn:aws:iot:us-east-1:123456789012:thing/a-device", results(t, fake, id)[0].Response.ResourceARNs.Thing())
		fake, role = newFake(t, fakebackend.Options{BadTemplate: fakebackend.FailTask})
		id = start(t, fake, role, body, `{"N":"device"}`)
		assert.Equal(t, task.Failed, describe(t, fake, id).Status)
	})
	t.Run("RefuseFlatCSR", func(t *testing.T) {
		flat := line(t, map[string]string{"ThingName": "x", "SerialNumber": "1", "CSR": strings.ReplaceAll(csrOf(key, "x"), "\n", "")})
		for refuse, good := range map[bool]int{false: 1, true: 0} {
			fake, id := run(t, fakebackend.Options{RefuseFlatCSR: refuse}, walkthrough(t), flat)
			assert.Equal(t, good, describe(t, fake, id).Succeeded)
		}
	})
	t.Run("NoBucket", func(t *testing.T) {
		fake, _ := newFake(t, fakebackend.Options{NoBucket: true})
		nothing := &task.UploadInput{Key: "x", SHA256: sha256.Sum256(nil)}
		_, err := fake.Upload(t.Context(), nothing)
		require.ErrorIs(t, err, task.ErrNotFound)
		require.NoError(t, fake.EnsureBucket(t.Context()))
		require.NoError(t, fake.EnsureBucket(t.Context()), "twice is no error")
		_, err = fake.Upload(t.Context(), nothing)
		require.NoError(t, err)
	})
}
