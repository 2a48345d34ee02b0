package fakeaws_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

func TestTheStateHasEverythingWithNamesOfOneCase(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	ctx := t.Context()
	c.setUp(ctx, t)
	_, err := c.iot.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("kind")})
	require.NoError(t, err)
	_, err = c.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("hall"), ThingGroupProperties: &iottypes.ThingGroupProperties{
		AttributePayload: &iottypes.AttributePayload{Attributes: map[string]string{"Floor": "2"}}}})
	require.NoError(t, err)
	_, err = c.iot.CreateBillingGroup(ctx, &iot.CreateBillingGroupInput{BillingGroupName: new("costs")})
	require.NoError(t, err)
	_, err = c.iot.CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{TemplateName: new("fleet"),
		TemplateBody: new(`{"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Serial"}}}}}`), ProvisioningRoleArn: new("arn:aws:iam::123456789012:role/r")})
	require.NoError(t, err)
	_, err = c.iot.CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: new("fleet")})
	require.NoError(t, err)
	_, err = c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: new(string(c.handler.Backend().CA())), CertificateMode: "SNI_ONLY"})
	require.NoError(t, err)
	line, _ := newLine(t, "device-one")
	c.upload(ctx, t, "k", line)
	_, err = c.start(ctx, "k")
	require.NoError(t, err)

	raw := get(t, c, c.url+"/_fake/state")
	var state any
	require.NoError(t, json.Unmarshal(raw, &state))
	var check func(v any, path string)
	check = func(v any, path string) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				assert.True(t, strings.HasSuffix(path, ".attributes") || unicode.IsLower(rune(name[0])), "%s.%s", path, name)
				check(member, path+"."+name)
			}
		case []any:
			for _, item := range v {
				check(item, path)
			}
		case nil:
			t.Errorf("%s is null", path)
		}
	}
	check(state, "")
	for name, member := range state.(map[string]any) {
		list, ok := member.([]any)
		assert.True(t, !ok || name == "faults" || len(list) > 0, "%s is in the example", name)
	}
	var known struct {
		Things []struct {
			ThingName      string
			CertificateIDs []string `json:"certificateIds"`
		}
		Certificates []struct {
			CertificateID string `json:"certificateId"`
			ThingNames    []string
		}
		ThingTypes  []struct{ ThingTypeName string }
		ThingGroups []struct{ GroupName string }
		Roles       []struct {
			RoleName           string
			AttachedPolicyARNs []string `json:"attachedPolicyArns"`
		}
	}
	require.NoError(t, json.Unmarshal(raw, &known))
	assert.Equal(t, []string{"device-one"}, known.Certificates[0].ThingNames)
	assert.Equal(t, []string{known.Certificates[0].CertificateID}, known.Things[0].CertificateIDs)
	assert.Equal(t, "kind", known.ThingTypes[0].ThingTypeName)
	assert.Equal(t, "hall", known.ThingGroups[0].GroupName)
	assert.Equal(t, []string{registrar}, known.Roles[0].AttachedPolicyARNs)
}

func TestASnapshotIsTakenAndRestoredOverHTTP(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	_, err := c.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("kept")})
	require.NoError(t, err)
	c.handler.Backend().SetTime(time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC))
	before := string(get(t, c, c.url+"/_fake/state"))
	snapshot := string(get(t, c, c.url+"/_fake/snapshot"))
	status, _, _ := send(t, c, http.MethodPost, "/_fake/advance?by=24h", "")
	require.Equal(t, http.StatusOK, status)
	status, _, _ = send(t, c, http.MethodPost, "/_fake/reset", "")
	require.Equal(t, http.StatusNoContent, status)
	assert.Equal(t, 24*time.Hour, c.handler.Backend().Now().Sub(time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)), "a reset leaves the clock")
	require.NotEqual(t, before, string(get(t, c, c.url+"/_fake/state")))
	status, answer, _ := send(t, c, http.MethodPut, "/_fake/snapshot", snapshot)
	require.Equal(t, http.StatusNoContent, status, answer)
	assert.Equal(t, before, string(get(t, c, c.url+"/_fake/state")))

	for _, bad := range []string{"", "{}", "[", strings.Replace(snapshot, "us-east-1", "eu-west-1", 1)} {
		status, answer, _ := send(t, c, http.MethodPut, "/_fake/snapshot", bad)
		assert.Equal(t, http.StatusBadRequest, status, answer)
	}
	assert.Equal(t, before, string(get(t, c, c.url+"/_fake/state")), "what is refused changes nothing")
}

func TestTheControlInterfaceRefusesWhatAStrangersPageCanSend(t *testing.T) {
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	h := fakeaws.NewHandler(fake, fakeaws.Options{ControlHosts: []string{"fake.example.org"}})
	status := func(host string, headers ...string) int {
		r := httptest.NewRequest(http.MethodPost, "/_fake/reset", nil)
		r.Host = host
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, host := range []string{"127.0.0.1:4566", "[::1]:4566", "localhost:4566", "localhost", "fakeaws:4566", "192.0.2.1", "aws.localhost:1",
		"host.docker.internal:4566", "fake.test", "FAKE.example.org:4566"} {
		assert.Equal(t, http.StatusNoContent, status(host), host)
	}
	for _, host := range []string{"evil.example.com:4566", "localhost.evil.com", "127.0.0.1.evil.com", "example.org", "test.com"} {
		assert.Equal(t, http.StatusForbidden, status(host), host)
	}
	const own = "127.0.0.1:4566"
	for _, headers := range [][]string{
		{"Origin", "https://evil.com"}, {"Origin", "null"}, {"Origin", "http://127.0.0.1:8080"}, {"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "cross-site", "Origin", "http://" + own}, {"Origin", "http://%zz"},
	} {
		assert.Equal(t, http.StatusForbidden, status(own, headers...), headers)
	}
	for _, headers := range [][]string{{"Origin", "http://" + own}, {"Sec-Fetch-Site", "none"}, {"Sec-Fetch-Site", "same-origin", "Origin", "http://" + own}} {
		assert.Equal(t, http.StatusNoContent, status(own, headers...), headers)
	}
}
