package fakebackend_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/template"
)

// thingTemplate is a template of one thing with everything a thing can have, and the given OverrideSettings.
func thingTemplate(t testing.TB, overrides map[string]string) string {
	t.Helper()
	thing := map[string]any{
		"Type": "AWS::IoT::Thing",
		"Properties": map[string]any{
			"ThingName": map[string]string{"Ref": "ThingName"}, "AttributePayload": map[string]string{"colour": "red", "size": "1"},
			"ThingTypeName": "new-type", "ThingGroups": []string{"new-group"},
		},
	}
	if len(overrides) > 0 {
		thing["OverrideSettings"] = overrides
	}
	raw, err := json.Marshal(map[string]any{
		"Parameters": map[string]any{"ThingName": map[string]string{"Type": "String"}},
		"Resources":  map[string]any{"thing": thing},
	})
	require.NoError(t, err)
	return string(raw)
}

// withOldThing makes a fake with a thing that differs from thingTemplate's in everything.
func withOldThing(t *testing.T, opts fakebackend.Options) (*fakebackend.Backend, string) {
	t.Helper()
	fake, role := newFake(t, opts)
	for _, name := range []string{"old", "new"} {
		_, err := api(fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new(name + "-type")})
		require.NoError(t, err)
		_, err = api(fake).CreateThingGroup(t.Context(), &iot.CreateThingGroupInput{ThingGroupName: new(name + "-group")})
		require.NoError(t, err)
	}
	_, err := api(fake).CreateThing(t.Context(), &iot.CreateThingInput{
		ThingName: new("device"), ThingTypeName: new("old-type"),
		AttributePayload: &types.AttributePayload{Attributes: map[string]string{"colour": "blue", "weight": "9"}},
	})
	require.NoError(t, err)
	_, err = api(fake).AddThingToThingGroup(t.Context(), &iot.AddThingToThingGroupInput{ThingName: new("device"), ThingGroupName: new("old-group")})
	require.NoError(t, err)
	return fake, role
}

func TestEveryCombinationOfThingOverridesActsAsDocumented(t *testing.T) {
	for _, attributes := range []string{"DO_NOTHING", "REPLACE", "MERGE", "FAIL", ""} {
		for _, kind := range []string{"DO_NOTHING", "REPLACE", "FAIL", ""} {
			for _, groups := range []string{"DO_NOTHING", "REPLACE", "MERGE", "FAIL", ""} {
				t.Run(fmt.Sprintf("%s,%s,%s", attributes, kind, groups), func(t *testing.T) {
					fake, role := withOldThing(t, fakebackend.Options{})
					settings := map[string]string{}
					for key, value := range map[string]string{"AttributePayload": attributes, "ThingTypeName": kind, "ThingGroups": groups} {
						if value != "" {
							settings[key] = value
						}
					}
					id := start(t, fake, role, thingTemplate(t, settings), `{"ThingName":"device"}`)
					device, _ := fake.Thing("device")
					failed := failures(t, fake, id)

					wantText := ""
					switch {
					case attributes == "FAIL":
						wantText = "ResourceConflictsException"
					case attributes == "":
						wantText = "Thing device already exists in account with different attributes"
					case kind == "FAIL":
						wantText = "ResourceConflictsException"
					case kind == "":
						wantText = "Thing device already exists in account with different attributes"
					case groups == "FAIL":
						wantText = "ResourceConflictsException"
					}
					if wantText != "" {
						require.Len(t, failed, 1)
						assert.Contains(t, failed[0].ErrorMessage, wantText)
						assert.Empty(t, results(t, fake, id))
						return
					}
					require.Empty(t, failed)
					require.Len(t, results(t, fake, id), 1)
					assert.Equal(t, map[string]map[string]string{
						"DO_NOTHING": {"colour": "blue", "weight": "9"},
						"REPLACE":    {"colour": "red", "size": "1"},
						"MERGE":      {"colour": "red", "size": "1", "weight": "9"},
					}[attributes], device.Attributes)
					assert.Equal(t, map[string]string{"DO_NOTHING": "old-type", "REPLACE": "new-type"}[kind], device.ThingTypeName)
					assert.Equal(t, map[string][]string{
						"DO_NOTHING": {"old-group"}, "REPLACE": {"new-group"}, "MERGE": {"old-group", "new-group"}, "": {"old-group", "new-group"},
					}[groups], device.ThingGroups)
				})
			}
		}
	}
}

func TestAThingWithoutOverridesIsTreatedAsTheOptionSays(t *testing.T) {
	for _, c := range []struct {
		option template.Override
		passes bool
		colour string
	}{{"", false, "blue"}, {template.DoNothing, true, "blue"}, {template.Replace, true, "red"}, {template.Fail, false, "blue"}} {
		fake, role := withOldThing(t, fakebackend.Options{ExistingThing: c.option})
		id := start(t, fake, role, thingTemplate(t, nil), `{"ThingName":"device"}`)
		assert.Equal(t, c.passes, len(results(t, fake, id)) == 1, "option %q", c.option)
		device, _ := fake.Thing("device")
		assert.Equal(t, c.colour, device.Attributes["colour"], "option %q", c.option)
	}
}

func TestAThingAsTheTemplateWantsItPassesWithoutOverrides(t *testing.T) {
	fake, role := withOldThing(t, fakebackend.Options{})
	id := start(t, fake, role, thingTemplate(t, nil), `{"ThingName":"fresh"}`, `{"ThingName":"fresh"}`)
	assert.Len(t, results(t, fake, id), 2)
	device, _ := fake.Thing("fresh")
	assert.Equal(t, "new-type", device.ThingTypeName)

	for _, onlyIfDifferent := range []bool{false, true} {
		fake, role := withOldThing(t, fakebackend.Options{FailOnlyIfDifferent: onlyIfDifferent})
		all := map[string]string{"AttributePayload": "FAIL", "ThingTypeName": "FAIL", "ThingGroups": "FAIL"}
		id := start(t, fake, role, thingTemplate(t, all), `{"ThingName":"fresh"}`, `{"ThingName":"fresh"}`)
		assert.Equal(t, onlyIfDifferent, len(results(t, fake, id)) == 2)
	}
}

func TestTheStatusOverrideActsOnACertificateThatExists(t *testing.T) {
	for _, was := range []bool{true, false} {
		for _, override := range []string{"DO_NOTHING", "REPLACE", "FAIL", ""} {
			for _, wanted := range []string{"ACTIVE", "Inactive"} {
				fake, role := newFake(t, fakebackend.Options{})
				made, err := api(fake).CreateCertificateFromCsr(t.Context(), &iot.CreateCertificateFromCsrInput{
					CertificateSigningRequest: new(csrOf(key, "device")), SetAsActive: was,
				})
				require.NoError(t, err)
				certificate := map[string]any{
					"Type":       "AWS::IoT::Certificate",
					"Properties": map[string]any{"CertificateId": map[string]string{"Ref": "Id"}, "Status": wanted},
				}
				if override != "" {
					certificate["OverrideSettings"] = map[string]string{"Status": override}
				}
				body, err := json.Marshal(map[string]any{
					"Parameters": map[string]any{"Id": map[string]string{"Type": "String"}},
					"Resources":  map[string]any{"certificate": certificate},
				})
				require.NoError(t, err)
				id := start(t, fake, role, string(body), line(t, map[string]string{"Id": *made.CertificateId}))
				name := fmt.Sprintf("active %v, %s to %s", was, override, wanted)
				assert.Equal(t, override != "FAIL", len(results(t, fake, id)) == 1, name)

				want := map[bool]string{true: "ACTIVE", false: "INACTIVE"}[was]
				if slices.Contains([]string{"REPLACE", ""}, override) {
					want = map[string]string{"ACTIVE": "ACTIVE", "Inactive": "INACTIVE"}[wanted]
				}
				c, err := fake.ReadCertificate(t.Context(), *made.CertificateId)
				require.NoError(t, err)
				assert.Equal(t, want, c.Status, name)
			}
		}
	}
}

func TestALineThatChangesAThingRaisesItsVersionOnce(t *testing.T) {
	fake, role := withOldThing(t, fakebackend.Options{})
	version := func() int64 {
		out, err := api(fake).DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: new("device")})
		require.NoError(t, err)
		return out.Version
	}
	before := version()
	all := map[string]string{"AttributePayload": "REPLACE", "ThingTypeName": "REPLACE", "ThingGroups": "MERGE"}
	id := start(t, fake, role, thingTemplate(t, all), `{"ThingName":"device"}`, `{"ThingName":"device"}`)
	require.Empty(t, failures(t, fake, id))
	assert.Equal(t, before+1, version(), "the second line changes nothing more")
}

func TestAnOverrideKeepsTheRulesOfTheRegistry(t *testing.T) {
	replace := map[string]string{"AttributePayload": "REPLACE", "ThingTypeName": "REPLACE", "ThingGroups": "MERGE"}
	t.Run("a deprecated type takes no thing", func(t *testing.T) {
		fake, role := withOldThing(t, fakebackend.Options{})
		_, err := api(fake).DeprecateThingType(t.Context(), &iot.DeprecateThingTypeInput{ThingTypeName: new("new-type")})
		require.NoError(t, err)
		failed := failures(t, fake, start(t, fake, role, thingTemplate(t, replace), `{"ThingName":"device"}`))
		require.Len(t, failed, 1)
		assert.Contains(t, failed[0].ErrorMessage, "thing type:new-type")
		device, _ := fake.Thing("device")
		assert.Equal(t, "old-type", device.ThingTypeName)
	})
	t.Run("merged attributes are counted together", func(t *testing.T) {
		fake, role := newFake(t, fakebackend.Options{})
		_, err := api(fake).CreateThing(t.Context(), &iot.CreateThingInput{
			ThingName: new("device"), AttributePayload: &types.AttributePayload{Attributes: map[string]string{"a": "1", "b": "2"}},
		})
		require.NoError(t, err)
		body := `{"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"device","AttributePayload":{"c":"3","d":"4"}},
			"OverrideSettings":{"AttributePayload":"MERGE"}}}}`
		failed := failures(t, fake, start(t, fake, role, body, `{}`))
		require.Len(t, failed, 1)
		device, _ := fake.Thing("device")
		assert.Equal(t, map[string]string{"a": "1", "b": "2"}, device.Attributes)
	})
}

func TestALineThatChangesTheStatusOfACertificateDatesTheChange(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	made, err := api(fake).CreateCertificateFromCsr(t.Context(), &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: new(csrOf(key, "c"))})
	require.NoError(t, err)
	fake.Advance(time.Hour)
	body := `{"Resources":{"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"Id"}},"OverrideSettings":{"Status":"REPLACE"}}}}`
	require.Empty(t, failures(t, fake, start(t, fake, role, body, line(t, map[string]string{"Id": *made.CertificateId}))))
	out, err := api(fake).DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: made.CertificateId})
	require.NoError(t, err)
	assert.EqualValues(t, "ACTIVE", out.CertificateDescription.Status)
	assert.Equal(t, monday, *out.CertificateDescription.CreationDate)
	assert.Equal(t, monday.Add(time.Hour), *out.CertificateDescription.LastModifiedDate)
}

func TestAnUndoneLineLeavesWhatExistedAsItWas(t *testing.T) {
	fake, role := withOldThing(t, fakebackend.Options{UndoFailedLines: true})
	ctx := t.Context()
	made, err := api(fake).CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: new(csrOf(key, "c"))})
	require.NoError(t, err)
	things := func() any {
		list, err := api(fake).ListThings(ctx, nil)
		require.NoError(t, err)
		c, err := api(fake).DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: made.CertificateId})
		require.NoError(t, err)
		return []any{list.Things, c.CertificateDescription, slices.Collect(fake.Things())}
	}
	before := things()
	require.Len(t, slices.Collect(fake.Things()), 1)
	fake.Advance(time.Hour)
	addFault(t, fake, fakebackend.Fault{Step: fakebackend.StepReport, Do: fakebackend.Fail})
	name := slices.Collect(fake.Things())[0].ThingName
	var body map[string]map[string]any
	replace := map[string]string{"AttributePayload": "REPLACE", "ThingTypeName": "REPLACE", "ThingGroups": "REPLACE"}
	require.NoError(t, json.Unmarshal([]byte(thingTemplate(t, replace)), &body))
	body["Resources"]["certificate"] = map[string]any{"Type": "AWS::IoT::Certificate", "Properties": map[string]any{"CertificateId": *made.CertificateId}}
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	id := start(t, fake, role, string(raw), line(t, map[string]string{"ThingName": name}))
	require.Len(t, failures(t, fake, id), 1)
	assert.Equal(t, before, things())
}
