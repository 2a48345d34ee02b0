package fakebackend_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// secrets makes one of everything that has an id or a key, and returns them.
func secrets(t *testing.T, fake *fakebackend.Backend) []string {
	t.Helper()
	ctx := t.Context()
	role, err := fake.EnsureRole(ctx, &task.RoleInput{Name: "registration"})
	require.NoError(t, err)
	keys, err := api(fake).CreateKeysAndCertificate(ctx, nil)
	require.NoError(t, err)
	kind, err := api(fake).CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("kind")})
	require.NoError(t, err)
	thing, err := api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("thing")})
	require.NoError(t, err)
	code, err := api(fake).GetRegistrationCode(ctx, nil)
	require.NoError(t, err)
	id := start(t, fake, role, walkthrough(t), fixedRows[0])
	return []string{*keys.KeyPair.PrivateKey, *keys.CertificateId, *kind.ThingTypeId, *thing.ThingId, *code.RegistrationCode, string(id)}
}

func TestAResetBringsNoKeyAndNoIDASecondTimeUnlessThereIsASeed(t *testing.T) {
	for _, seed := range [][]byte{nil, []byte("test")} {
		fake, err := fakebackend.New(fakebackend.Options{Seed: seed})
		require.NoError(t, err)
		fake.SetTime(monday)
		ca := fake.CA()
		before := secrets(t, fake)
		fake.Reset()
		assert.Equal(t, fakebackend.Counts{}, fake.Counts())
		assert.Equal(t, ca, fake.CA(), "who trusts the CA goes on trusting it")
		after := secrets(t, fake)
		for i := range before {
			assert.Equal(t, seed != nil, before[i] == after[i], "value %d", i)
		}
	}
}

func TestAResetLeavesTheClockWhereItIs(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	fake.Advance(time.Hour)
	fake.Reset()
	assert.Equal(t, monday.Add(time.Hour), fake.Now())
}

func TestATaskThatAFaultEndsMidwayKeepsAndReportsWhatItHasDone(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1})
	_, err := fake.AddFault(fakebackend.Fault{Do: fakebackend.EndTask, Line: 3, Message: "An internal error occurred."})
	require.NoError(t, err)
	id := start(t, fake, role, walkthrough(t), rows(t, 4)...)
	fake.Advance(2 * time.Second)
	assert.Equal(t, task.InProgress, describe(t, fake, id).Status)
	fake.Advance(time.Hour)
	d := describe(t, fake, id)
	assert.Equal(t, []any{task.Failed, "An internal error occurred.", 2, 0}, []any{d.Status, d.Message, d.Succeeded, d.Failed})
	assert.Equal(t, monday.Add(3*time.Second), d.LastModified, "it ends when its third line is due")
	assert.Len(t, results(t, fake, id), 2)
	assert.Equal(t, 2, fake.Counts().Things)
	start(t, fake, role, walkthrough(t), fixedRows[0]) // another task can run

	for _, f := range []fakebackend.Fault{
		{Do: fakebackend.EndTask, Step: fakebackend.StepThing}, {Do: fakebackend.EndTask, Thing: "x"},
	} {
		_, err := fake.AddFault(f)
		require.Error(t, err)
	}
	_, err = fake.AddFault(fakebackend.Fault{Do: fakebackend.EndTask, Nth: 2})
	require.NoError(t, err)
	_, err = fake.RegisterThing(t.Context(), &task.RegisterInput{TemplateBody: walkthrough(t),
		Parameters: map[string]string{"ThingName": "one", "SerialNumber": "1", "CSR": csrOf(key, "one")}})
	require.NoError(t, err, "a RegisterThing is no task")
}
