package fakebackend_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestRegisterThingDoesWhatALineDoes(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	in := &task.RegisterInput{TemplateBody: walkthrough(t), Parameters: map[string]string{"ThingName": "device", "SerialNumber": "1", "CSR": csrOf(key, "x")}}
	out, err := fake.RegisterThing(t.Context(), in)
	require.NoError(t, err)
	device, err := fake.ReadDevice(t.Context(), "device")
	require.NoError(t, err)
	require.Len(t, device.Certificates, 1)
	assert.Equal(t, out.CertificatePEM, device.Certificates[0].PEM)
	assert.Equal(t, device.ThingARN, out.ARNs.Thing())

	in.Parameters["SerialNumber"] = "2"
	_, err = fake.RegisterThing(t.Context(), in)
	require.ErrorIs(t, err, task.ErrRegistrationFailed)
	assert.ErrorContains(t, err, "Thing device already exists in account with different attributes")
	delete(in.Parameters, "SerialNumber")
	_, err = fake.RegisterThing(t.Context(), in)
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	assert.EqualError(t, err, "RegisterThing: InvalidRequestException: Invalid registration template. Cannot resolve reference value: {Ref=SerialNumber}")
	in.TemplateBody = thingTemplate(t, map[string]string{"AttributePayload": "FAIL", "ThingTypeName": "FAIL"})
	_, err = fake.RegisterThing(t.Context(), in)
	require.ErrorIs(t, err, task.ErrRegistrationFailed)
	assert.ErrorContains(t, err, "Thing Type 123456789012:new-type not found")
	_, err = api(fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new("new-type")})
	require.NoError(t, err)
	_, err = fake.RegisterThing(t.Context(), in)
	require.ErrorIs(t, err, task.ErrConflict)
	assert.Equal(t, "ConflictingResourceUpdateException", codeOf(err))
}

// remove removes a thing with its certificates.
func remove(t *testing.T, fake *fakebackend.Backend, thing string) {
	t.Helper()
	if device, ok := fake.Thing(thing); ok {
		for _, c := range device.Certificates {
			_, err := fake.RetireCertificate(t.Context(), thing, c.ID)
			require.NoError(t, err)
		}
	}
	left, err := fake.RemoveThing(t.Context(), thing)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestRemovingADeviceLeavesNothingAndTwiceIsNoError(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	id := start(t, fake, role, walkthrough(t), fixedRows[:2]...)
	require.Equal(t, 2, describe(t, fake, id).Succeeded)
	first := slices.Collect(fake.Certificates())[0]
	for range 2 {
		others, err := fake.RetireCertificate(t.Context(), "fixed-0", first.ID)
		require.NoError(t, err)
		assert.Empty(t, others)
	}
	assert.Equal(t, fakebackend.Counts{Things: 2, Certificates: 1, Policies: 1, Tasks: 1}, fake.Counts())
	for range 2 {
		remove(t, fake, "fixed-0")
		remove(t, fake, "fixed-1")
	}
	assert.Equal(t, fakebackend.Counts{Policies: 1, Tasks: 1}, fake.Counts())
	for p := range fake.Policies() {
		assert.Zero(t, p.Targets)
	}
	_, err := fake.ReadDevice(t.Context(), "fixed-0")
	require.ErrorIs(t, err, task.ErrNotFound)
}

func TestACertificateThatAnotherThingUsesIsOnlyDetached(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	made, err := api(fake).CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: new(csrOf(key, "shared"))})
	require.NoError(t, err)
	for _, name := range []string{"a", "b"} {
		_, err := api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: &name})
		require.NoError(t, err)
		_, err = api(fake).AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &name, Principal: made.CertificateArn})
		require.NoError(t, err)
	}
	others, err := fake.RetireCertificate(ctx, "a", *made.CertificateId)
	require.NoError(t, err)
	assert.Equal(t, []string{"b"}, others)
	device, ok := fake.Thing("b")
	require.True(t, ok)
	assert.Len(t, device.Certificates, 1)
	device, ok = fake.Thing("a")
	require.True(t, ok)
	assert.Empty(t, device.Certificates)
}

func TestCertificatesAreListedNewestFirstSinceATime(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1, PageSize: 2})
	id := start(t, fake, role, walkthrough(t), fixedRows...)
	fake.Advance(time.Minute)
	require.Equal(t, 8, describe(t, fake, id).Succeeded)
	var times []time.Duration
	for c, err := range fake.ListCertificates(t.Context(), monday.Add(4*time.Second)) {
		require.NoError(t, err)
		times = append(times, c.Created.Sub(monday)/time.Second)
	}
	assert.Equal(t, []time.Duration{8, 7, 6, 5, 4}, times)
}

func TestPreflightFindsWhatWouldFailATask(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{NoBucket: true, Rate: 1})
	problems := func(in *task.PreflightInput) (checks []string) {
		findings, err := fake.Preflight(t.Context(), in)
		require.NoError(t, err)
		for _, f := range findings {
			assert.NotEmpty(t, f.Message)
			if f.Severity != finding.OK {
				checks = append(checks, string(f.Rule))
			}
		}
		return checks
	}
	in := &task.PreflightInput{TemplateBody: "{}", RoleARN: "arn:aws:iam::123456789012:role/none", ThingTypes: []string{"t"}, ThingGroups: []string{"g"},
		BillingGroups: []string{"b"}, Policies: []string{"p"}}
	assert.Equal(t, []string{"bucket", "role-trust", "template", "thing-type", "thing-group", "billing-group", "policy"}, problems(in))
	require.NoError(t, fake.EnsureBucket(t.Context()))
	assert.Empty(t, problems(&task.PreflightInput{TemplateBody: walkthrough(t), RoleARN: role}))
	start(t, fake, role, walkthrough(t), fixedRows...)
	assert.Equal(t, []string{"task-running"}, problems(&task.PreflightInput{}))
}

func TestEnsureRoleGuardsLimitsAndRepeats(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	in := &task.RoleInput{Name: "guarded", SourceGuard: true, ObjectPrefix: "runs/", KMSKeyARN: "arn:aws:kms:us-east-1:123456789012:key/x"}
	arn, err := fake.EnsureRole(t.Context(), in)
	require.NoError(t, err)
	again, err := fake.EnsureRole(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, "arn:aws:iam::123456789012:role/guarded", arn)
	assert.Equal(t, arn, again)
	outside := start(t, fake, arn, walkthrough(t), fixedRows[0])
	assert.Contains(t, describe(t, fake, outside).Message, "s3:GetObject")
	upload(t, fake, "runs/devices.json", fixedRows[0])
	id, err := fake.StartTask(t.Context(), &task.StartInput{TemplateBody: walkthrough(t), InputFileBucket: "iotfleet-fake", InputFileKey: "runs/devices.json", RoleARN: arn})
	require.NoError(t, err)
	assert.Equal(t, task.Completed, describe(t, fake, id).Status)
	_, err = fake.EnsureRole(t.Context(), &task.RoleInput{Name: "a b"})
	require.ErrorIs(t, err, task.ErrInvalidRequest)
}

func TestAnUploadIsWholeOrNotAtAll(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	first := strings.Join(fixedRows[:1], "")
	upload(t, fake, "devices.json", first)
	for name, in := range map[string]*task.UploadInput{
		"another digest": {Key: "devices.json", Body: strings.NewReader("second"), Size: 6, SHA256: sha256.Sum256([]byte("other"))},
		"too short":      {Key: "devices.json", Body: strings.NewReader("second"), Size: 7, SHA256: sha256.Sum256([]byte("second"))},
		"too long":       {Key: "devices.json", Body: strings.NewReader("second"), Size: 5, SHA256: sha256.Sum256([]byte("second"))},
	} {
		_, err := fake.Upload(t.Context(), in)
		require.ErrorIs(t, err, task.ErrChecksum, name)
	}
	_, err := fake.Upload(t.Context(), &task.UploadInput{Key: "a key", Body: strings.NewReader("")})
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	id, err := fake.StartTask(t.Context(), &task.StartInput{TemplateBody: walkthrough(t), InputFileBucket: "iotfleet-fake", InputFileKey: "devices.json", RoleARN: role})
	require.NoError(t, err)
	assert.Equal(t, 1, describe(t, fake, id).Succeeded, "the first file is still there")
}

// TestParallelCallersKeepTheInvariants hammers one fake from many sides while a task runs and time moves.
func TestParallelCallersKeepTheInvariants(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 100, LinesPerReport: 7})
	const n = 100
	id := start(t, fake, role, walkthrough(t), rows(t, n)...)
	fine := func(err error) bool { return assert.NoError(t, err) } // require is for the test's own goroutine
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			last := 0
			for i := range 20 {
				fake.Advance(10 * time.Millisecond)
				d, err := fake.DescribeTask(t.Context(), id)
				if !fine(err) {
					return
				}
				assert.GreaterOrEqual(t, d.Succeeded, last, "counts never fall")
				assert.LessOrEqual(t, d.Succeeded+d.Failed, n)
				last = d.Succeeded
				name := fmt.Sprintf("own-%d-%d", worker, i)
				_, err = api(fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new(name)})
				fine(err)
				page, err := fake.ListReports(t.Context(), id, task.ResultsReport, "")
				if !fine(err) {
					return
				}
				for _, link := range page.Links {
					body, err := fake.Open(t.Context(), link, 0)
					if fine(err) {
						fine(body.Close())
					}
				}
				switch worker {
				case 0:
					fake.Snapshot()
				case 1:
					_, err = fake.StateJSON()
					fine(err)
				case 2:
					if device, ok := fake.Thing(name); ok {
						for _, c := range device.Certificates {
							_, err := fake.RetireCertificate(t.Context(), name, c.ID)
							fine(err)
						}
					}
					_, err := fake.RemoveThing(t.Context(), name)
					fine(err)
				case 3:
					_, err := fake.AddFault(fakebackend.Fault{Operation: "DescribeEndpoint", Do: fakebackend.Throttle})
					fine(err)
					_, err = fake.DataEndpoint(t.Context())
					assert.ErrorIs(t, err, task.ErrThrottled)
				}
			}
		})
	}
	wg.Wait()
	fake.Advance(time.Minute)
	assert.Equal(t, n, describe(t, fake, id).Succeeded)
	assert.Len(t, results(t, fake, id), n)
	assert.Equal(t, fakebackend.Counts{Things: n + 7*20, Certificates: n, Policies: 1, Tasks: 1}, fake.Counts())
}
