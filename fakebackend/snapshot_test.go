package fakebackend_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/task"
)

// busy makes a fake with a bit of everything and a task half done.
func busy(t *testing.T) (fake *fakebackend.Backend, running task.ID) {
	t.Helper()
	fake, role := newFake(t, fakebackend.Options{Rate: 1, LinesPerReport: 2, StartDelay: time.Second})
	ctx := t.Context()
	for _, step := range []func() error{
		func() error {
			_, err := api(fake).CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("kind"), Tags: []types.Tag{{Key: new("a"), Value: new("b")}}})
			return err
		},
		func() error {
			_, err := api(fake).CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("top")})
			return err
		},
		func() error {
			_, err := api(fake).CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("below"), ParentGroupName: new("top")})
			return err
		},
		func() error {
			_, err := api(fake).CreateBillingGroup(ctx, &iot.CreateBillingGroupInput{BillingGroupName: new("bill")})
			return err
		},
		func() error {
			_, err := api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("own"), ThingTypeName: new("kind"), BillingGroupName: new("bill")})
			return err
		},
		func() error {
			_, err := api(fake).AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: new("own"), ThingGroupName: new("below")})
			return err
		},
	} {
		require.NoError(t, step())
	}
	done := start(t, fake, role, walkthrough(t), fixedRows[:3]...)
	fake.Advance(time.Minute)
	require.Equal(t, 3, describe(t, fake, done).Succeeded)
	// A device that is gone still stands in the report of its task.
	remove(t, fake, "fixed-1")
	addFault(t, fake, fakebackend.Fault{Line: 5, Step: fakebackend.StepPolicy, Do: fakebackend.Throttle})
	addFault(t, fake, fakebackend.Fault{Line: 7, Do: fakebackend.Delay, Delay: time.Second})
	running = start(t, fake, role, walkthrough(t), append([]string{"not JSON"}, fixedRows...)...)
	fake.Advance(4500 * time.Millisecond)
	require.Equal(t, 2, describe(t, fake, running).Succeeded)
	return fake, running
}

// view is everything that can be seen of a fake, links and all.
func view(t *testing.T, fake *fakebackend.Backend) string {
	t.Helper()
	state, err := fake.StateJSON()
	require.NoError(t, err)
	var out bytes.Buffer
	out.Write(state)
	for d := range fake.Tasks() {
		for _, kind := range []task.ReportType{task.ResultsReport, task.ErrorsReport} {
			lines, files := report(t, fake, d.ID, kind)
			fmt.Fprintln(&out, d.ID, kind, files, lines)
		}
	}
	things, err := api(fake).ListThings(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, json.NewEncoder(&out).Encode(things.Things))
	out.Write(fake.CA())
	return out.String()
}

func TestARestoredSnapshotGoesOnAsTheOriginalWould(t *testing.T) {
	original, running := busy(t)
	snapshot := original.Snapshot()
	before := view(t, original)

	copied, err := fakebackend.New(fakebackend.Options{Rate: 1, LinesPerReport: 2, StartDelay: time.Second}) // a CA of its own
	require.NoError(t, err)
	require.NoError(t, copied.Restore(snapshot))
	assert.Equal(t, before, view(t, copied))

	original.Advance(time.Minute)
	copied.Advance(time.Minute)
	assert.Equal(t, task.Completed, describe(t, copied, running).Status)
	after := view(t, original)
	assert.Equal(t, after, view(t, copied), "the same lines give the same certificates")
	assert.NotEqual(t, before, after)

	require.NoError(t, original.Restore(snapshot), "a snapshot can be used more than once")
	assert.Equal(t, before, view(t, original))
}

// A field that is lost or added is seen here, whatever else shows of it.
func TestARestoredAccountHasTheSnapshotItWasRestoredFrom(t *testing.T) {
	working, _ := busy(t)
	c := newClaims(t, fakebackend.Options{Hooks: map[string]fakebackend.ProvisioningHook{
		hookARN: func(context.Context, *fakebackend.HookRequest) (*fakebackend.HookAnswer, error) {
			return &fakebackend.HookAnswer{AllowProvisioning: true}, nil
		},
	}})
	ctx, client := t.Context(), api(c.fake)
	one, gone := newAuthority(monday), newAuthority(monday)
	one.in(t, c.fake, &types.RegistrationConfig{TemplateBody: new(jitp), RoleArn: &c.role})
	goneID := gone.in(t, c.fake, nil).CertificateId
	meet(t, c.fake, hello(c.fake, "pump-1", gone.device("pump-1")))
	d := c.connect(t, "device-1")
	issued := c.own(t, d)
	_, err := c.provision(ctx, d, issued.Token.Reveal(), "1")
	require.NoError(t, err)
	arn := "arn:aws:iot:us-east-1:123456789012:cert/" + issued.CertificateID
	for i, step := range []func() error{
		func() error {
			_, err := client.UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: goneID, NewStatus: "INACTIVE"})
			return err
		},
		func() error {
			_, err := client.DeleteCACertificate(ctx, &iot.DeleteCACertificateInput{CertificateId: goneID})
			return err
		},
		func() error {
			_, err := client.DeleteRegistrationCode(ctx, nil)
			return err
		},
		func() error {
			_, err := client.CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: new("fleet")})
			return err
		},
		func() error {
			_, err := client.UpdateProvisioningTemplate(ctx, &iot.UpdateProvisioningTemplateInput{TemplateName: new("fleet"), Description: new("ours")})
			return err
		},
		func() error {
			_, err := client.CreateThing(ctx, &iot.CreateThingInput{ThingName: new("alone")})
			return err
		},
		func() error {
			_, err := client.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: new("claimed-1"), Principal: &arn})
			return err
		},
		func() error {
			_, err := client.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: new("alone"), Principal: &arn, ThingPrincipalType: "EXCLUSIVE_THING"})
			return err
		},
		func() error {
			out, err := client.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("all"), ThingGroupProperties: &types.ThingGroupProperties{
				ThingGroupDescription: new("ours"), AttributePayload: &types.AttributePayload{Attributes: map[string]string{"a": "b"}}}})
			if err == nil {
				_, err = client.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: new("claim"), Target: out.ThingGroupArn})
			}
			return err
		},
		func() error {
			_, err := client.CreateBillingGroup(ctx, &iot.CreateBillingGroupInput{BillingGroupName: new("bill"), BillingGroupProperties: &types.BillingGroupProperties{BillingGroupDescription: new("ours")}})
			return err
		},
		func() error {
			_, err := client.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("old"), ThingTypeProperties: &types.ThingTypeProperties{ThingTypeDescription: new("ours")}})
			return err
		},
		func() error {
			_, err := client.DeprecateThingType(ctx, &iot.DeprecateThingTypeInput{ThingTypeName: new("old")})
			return err
		},
	} {
		require.NoError(t, step(), i)
	}

	set := map[string]bool{} // whether a member has a value anywhere
	for _, fake := range []*fakebackend.Backend{working, c.fake} {
		before, err := fake.Snapshot().MarshalBinary()
		require.NoError(t, err)
		require.NoError(t, fake.Restore(fake.Snapshot()))
		after, err := fake.Snapshot().MarshalBinary()
		require.NoError(t, err)
		require.JSONEq(t, string(before), string(after))
		var members any
		require.NoError(t, json.Unmarshal(before, &members))
		note(set, "", members)
	}
	var unset []string
	for path, ok := range set {
		if others := []string{"Objects", "Roles", "Tasks", "Faults"}; !ok && !slices.Contains(others, strings.Split(path+".", ".")[1]) {
			unset = append(unset, path)
		}
	}
	slices.Sort(unset)
	assert.Equal(t, []string{".Policies.Gone"}, unset, "what the accounts of this test leave as it is")
}

// note notes which members have a value.
func note(set map[string]bool, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		set[path] = set[path] || len(v) > 0
		for name, member := range v {
			note(set, path+"."+name, member)
		}
	case []any:
		set[path] = set[path] || len(v) > 0
		for _, item := range v {
			note(set, path, item)
		}
	default:
		set[path] = set[path] || v != nil && v != false && v != "" && v != 0.0 && v != "0001-01-01T00:00:00Z"
	}
}

func TestARestoredTaskMayDoWhatItsRoleAllowedWhenItStarted(t *testing.T) {
	original, running := busy(t)
	roles := wire.Of(original).Services().IAM
	require.NoError(t, roles.DetachRolePolicy("registration", "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"))
	weaker := original.Snapshot()
	require.NoError(t, roles.DeleteRolePolicy("registration", "read-data-files"))
	require.NoError(t, roles.DeleteRole("registration"))
	gone := original.Snapshot()
	noRoles := func() { roles.Restore(iam.State{}) } // so that a view shows what the task has done, and not the role
	original.Advance(time.Minute)
	noRoles()
	after := view(t, original)
	require.Positive(t, describe(t, original, running).Succeeded)
	for _, snapshot := range []*fakebackend.Snapshot{weaker, gone} {
		require.NoError(t, original.Restore(snapshot))
		original.Advance(time.Minute)
		require.Equal(t, task.Completed, describe(t, original, running).Status)
		noRoles()
		assert.Equal(t, after, view(t, original))
	}
}

func TestARestoredCertificateStillNamesACAThatIsGone(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	caPEM, sign := ownCA()
	ca, err := api(fake).RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: new(caPEM), CertificateMode: "SNI_ONLY", SetAsActive: true})
	require.NoError(t, err)
	made, err := api(fake).RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: new(sign("one"))})
	require.NoError(t, err)
	_, err = api(fake).UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: ca.CertificateId, NewStatus: "INACTIVE"})
	require.NoError(t, err)
	_, err = api(fake).DeleteCACertificate(ctx, &iot.DeleteCACertificateInput{CertificateId: ca.CertificateId})
	require.NoError(t, err)
	for range 3 { // a snapshot of what was restored is as good as the first
		got, err := api(fake).DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: made.CertificateId})
		require.NoError(t, err)
		assert.Equal(t, *ca.CertificateId, *got.CertificateDescription.CaCertificateId)
		byCA, err := api(fake).ListCertificatesByCA(ctx, &iot.ListCertificatesByCAInput{CaCertificateId: ca.CertificateId})
		require.NoError(t, err)
		assert.Len(t, byCA.Certificates, 1)
		cas, err := api(fake).ListCACertificates(ctx, nil)
		require.NoError(t, err)
		assert.Empty(t, cas.Certificates)
		require.NoError(t, fake.Restore(fake.Snapshot()))
	}
}

func TestASnapshotOfAnotherVersionIsNamed(t *testing.T) {
	var snapshot fakebackend.Snapshot
	for _, raw := range []string{`{"Version":2}`, `{"Version":2,"Objects":{"Buckets":[{"Name":"fleet","Objects":[{"Parts":0}]}]}}`} {
		assert.EqualError(t, snapshot.UnmarshalBinary([]byte(raw)), "fakebackend: the snapshot has version 2; this release reads version 1")
	}
	assert.ErrorContains(t, snapshot.UnmarshalBinary([]byte(`{`)), "read a snapshot")
}

func TestASnapshotSurvivesAFile(t *testing.T) {
	original, _ := busy(t)
	snapshot := original.Snapshot()
	before := view(t, original)
	var file bytes.Buffer
	require.NoError(t, gob.NewEncoder(&file).Encode(snapshot))
	read := new(fakebackend.Snapshot)
	require.NoError(t, gob.NewDecoder(&file).Decode(read))
	original.Reset()
	require.NoError(t, original.Restore(read))
	assert.Equal(t, before, view(t, original))
	original.Advance(time.Minute)
	view(t, original)
}

func TestASnapshotShowsNothingOfItself(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{Seed: []byte("very secret")})
	snapshot := fake.Snapshot()
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		assert.Equal(t, "[snapshot of a fake account]", fmt.Sprintf(format, snapshot))
	}
	_, err := json.Marshal(snapshot)
	require.Error(t, err)
	assert.NotContains(t, fmt.Sprintf("%#v", fake.Options()), "very secret")
}

func TestASnapshotThatDoesNotFitIsRefusedAndChangesNothing(t *testing.T) {
	fake, _ := busy(t)
	before := view(t, fake)
	require.Error(t, fake.Restore(nil))
	require.Error(t, fake.Restore(new(fakebackend.Snapshot)))
	other, err := fakebackend.New(fakebackend.Options{Region: "eu-central-1"})
	require.NoError(t, err)
	require.ErrorContains(t, fake.Restore(other.Snapshot()), "eu-central-1")

	raw, err := fake.Snapshot().MarshalBinary()
	require.NoError(t, err)
	var whole struct{ Things, Certificates []json.RawMessage }
	require.NoError(t, json.Unmarshal(raw, &whole))
	twice := func(records []json.RawMessage) string { // the first record, once more at the end
		require.NotEmpty(t, records)
		text, err := json.Marshal(append(records, records[0]))
		require.NoError(t, err)
		return string(text)
	}
	for _, change := range []struct{ member, value string }{
		{"Things", twice(whole.Things)}, {"Certificates", twice(whole.Certificates)},
		{"Version", "99"}, {"Things", `[{"N":1,"Name":"x","Certificates":[99]}]`}, {"Certificates", `[{"N":1,"Status":77}]`},
		{"Policies", `[{"N":1,"Name":"p"}]`}, {"Roles", `{"Roles":{"r":null}}`}, {"Roles", `{"Policies":{"p":null}}`},
		{"Tasks", `[{"N":1,"ID":"x","Status":"InProgress","Total":5,"Next":-1}]`},
	} {
		var m map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &m))
		m[change.member] = json.RawMessage(change.value)
		changed, err := json.Marshal(m)
		require.NoError(t, err)
		read := new(fakebackend.Snapshot)
		if err = read.UnmarshalBinary(changed); err == nil {
			err = fake.Restore(read)
		}
		require.Error(t, err, change.member)
	}
	assert.Equal(t, before, view(t, fake))
}

func TestResetEmptiesTheAccountAndKeepsTheCA(t *testing.T) {
	fake, _ := busy(t)
	ca := fake.CA()
	fake.Reset()
	assert.Equal(t, fakebackend.Counts{}, fake.Counts())
	assert.Empty(t, fake.Faults())
	assert.Equal(t, ca, fake.CA())
	account := wire.Of(fake).Services()
	assert.Empty(t, account.IAM.Roles(""))
	objects, err := account.S3.List(s3.ListInput{Bucket: "iotfleet-fake", Max: 1})
	require.NoError(t, err, "the bucket is there again")
	assert.Empty(t, objects.Objects)
	role, err := fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration"})
	require.NoError(t, err)
	id := start(t, fake, role, walkthrough(t), fixedRows...)
	fake.Advance(time.Minute)
	assert.Equal(t, 8, describe(t, fake, id).Succeeded)
}

func TestTheSameSeedGivesTheSameIdsAndCertificates(t *testing.T) {
	views := [2]string{}
	for i := range views {
		fake, role := newFake(t, fakebackend.Options{Seed: []byte("one")})
		start(t, fake, role, walkthrough(t), fixedRows...)
		views[i] = view(t, fake)
	}
	assert.Equal(t, views[0], views[1])
	fake, role := newFake(t, fakebackend.Options{Seed: []byte("two")})
	start(t, fake, role, walkthrough(t), fixedRows...)
	assert.NotEqual(t, views[0], view(t, fake))
}

// Roles and uploads are kept by other stores than what is AWS IoT's.
func TestTheIdsOfRolesAndUploadsFollowTheSeedToo(t *testing.T) {
	ids := func(fake *fakebackend.Backend) [2]string {
		_, err := fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration"})
		require.NoError(t, err)
		account := wire.Of(fake).Services()
		upload, err := account.S3.CreateUpload("iotfleet-fake", "k", s3.Info{}, "", monday)
		require.NoError(t, err)
		return [2]string{account.IAM.Roles("")[0].ID, upload.ID}
	}
	made := func(seed string) *fakebackend.Backend {
		fake, err := fakebackend.New(fakebackend.Options{Seed: []byte(seed)})
		require.NoError(t, err)
		return fake
	}
	one := ids(made("one"))
	assert.Equal(t, one, ids(made("one")))
	other, restored := ids(made("two")), made("two")
	require.NoError(t, restored.Restore(made("one").Snapshot()))
	assert.Equal(t, one, ids(restored), "the seed comes with the snapshot")
	for i, id := range one {
		assert.NotEqual(t, id, other[i])
	}
}

// FuzzSnapshot reads arbitrary bytes as a snapshot: nothing panics, and what can be restored can be used and written
// again.
func FuzzSnapshot(f *testing.F) {
	fake, role := newFake(f, fakebackend.Options{Rate: 1})
	start(f, fake, role, walkthrough(f), fixedRows[:3]...)
	fake.Advance(1500 * time.Millisecond)
	raw, err := fake.Snapshot().MarshalBinary()
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte(`{"Version":1,"Region":"us-east-1","Account":"123456789012"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		snapshot := new(fakebackend.Snapshot)
		if snapshot.UnmarshalBinary(raw) != nil {
			return
		}
		copied, err := fakebackend.New(fakebackend.Options{Rate: 1, Seed: []byte("x")})
		require.NoError(t, err)
		if copied.Restore(snapshot) != nil {
			return
		}
		for d := range copied.Tasks() {
			require.LessOrEqual(t, 0, d.Percent)
		}
		again, err := copied.Snapshot().MarshalBinary()
		require.NoError(t, err)
		require.NoError(t, new(fakebackend.Snapshot).UnmarshalBinary(again))
	})
}
