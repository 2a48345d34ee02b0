package awsbackend

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	certA = strings.Repeat("a", 64)
	certB = strings.Repeat("b", 64)
)

func certARN(id string) string { return "arn:aws:iot:eu-central-1:123456789012:cert/" + id }

var missing = exception(404, "ResourceNotFoundException", "gone")

// lastSegment is what a request names at the end of its path, decoded.
func lastSegment(r *request) string {
	path := r.URL.EscapedPath()
	name, _ := url.PathUnescape(path[strings.LastIndexByte(path, '/')+1:])
	return name
}

func describedCertificate(status string) func(*request) *http.Response {
	return func(r *request) *http.Response {
		id := lastSegment(r)
		return response(200, fmt.Sprintf(`{"certificateDescription":{"certificateId":%q,"certificateArn":%q,"status":%q,
			"certificatePem":"PEM of %s","creationDate":1700000000.5}}`, id, certARN(id), status, id[:1]))
	}
}

func TestReadDeviceFollowsEveryPage(t *testing.T) {
	b, w := onWire(t, answers{
		"DescribeThing": reply(200, `{"thingName":"d1","thingArn":"arn:aws:iot:eu-central-1:123456789012:thing/d1","thingTypeName":"sensor",
			"attributes":{"serial":"001"},"billingGroupName":"bg"}`),
		"ListThingGroupsForThing": inTurn(reply(200, `{"thingGroups":[{"groupName":"g1"}],"nextToken":"2"}`), reply(200, `{"thingGroups":[{"groupName":"g2"}]}`)),
		"ListThingPrincipals": inTurn(reply(200, fmt.Sprintf(`{"principals":[%q,"eu-central-1:cognito-identity"],"nextToken":"2"}`, certARN(certA))),
			reply(200, fmt.Sprintf(`{"principals":[%q]}`, certARN(certB)))),
		"DescribeCertificate":  describedCertificate("ACTIVE"),
		"ListAttachedPolicies": inTurn(reply(200, `{"policies":[{"policyName":"p1"}],"nextMarker":"bQ=="}`), reply(200, `{"policies":[{"policyName":"p2"}]}`)),
	})
	d, err := b.ReadDevice(t.Context(), "d1")
	require.NoError(t, err)
	created := time.Unix(1700000000, 5e8)
	for i := range d.Certificates {
		assert.True(t, created.Equal(d.Certificates[i].Created))
		d.Certificates[i].Created = created
	}
	assert.Equal(t, &task.Device{
		ThingName: "d1", ThingARN: "arn:aws:iot:eu-central-1:123456789012:thing/d1", ThingTypeName: "sensor",
		Attributes: map[string]string{"serial": "001"}, BillingGroup: "bg", ThingGroups: []string{"g1", "g2"},
		Certificates: []task.Certificate{
			{ID: certA, ARN: certARN(certA), PEM: "PEM of a", Status: "ACTIVE", Created: created, Policies: []string{"p1", "p2"}},
			{ID: certB, ARN: certARN(certB), PEM: "PEM of b", Status: "ACTIVE", Created: created, Policies: []string{"p2"}},
		},
	}, d)
	assert.Equal(t, 2, w.count("ListThingPrincipals"))
}

func TestReadDeviceOfAnUnknownThingIsNotFound(t *testing.T) {
	b, _ := onWire(t, answers{"DescribeThing": missing})
	_, err := b.ReadDevice(t.Context(), "d1")
	require.ErrorIs(t, err, task.ErrNotFound)
	assert.ErrorContains(t, err, `"d1"`)
	_, err = b.ReadDevice(t.Context(), "")
	require.ErrorIs(t, err, task.ErrInvalidRequest)
}

func TestACertificateDeletedWhileItIsReadIsLeftOut(t *testing.T) {
	b, _ := onWire(t, answers{"DescribeThing": reply(200, `{"thingName":"d1","thingArn":"arn:aws:iot:eu-central-1:123456789012:thing/d1"}`), "ListThingGroupsForThing": reply(200, `{}`),
		"ListThingPrincipals": reply(200, fmt.Sprintf(`{"principals":[%q,%q]}`, certARN(certA), certARN(certB))),
		"DescribeCertificate": inTurn(missing, describedCertificate("ACTIVE")), "ListAttachedPolicies": reply(200, `{}`)})
	d, err := b.ReadDevice(t.Context(), "d1")
	require.NoError(t, err)
	require.Len(t, d.Certificates, 1)
	assert.Equal(t, certB, d.Certificates[0].ID)
}

func TestAPageTokenThatRepeatsIsNotFollowedForEver(t *testing.T) {
	b, _ := onWire(t, answers{"DescribeThing": reply(200, `{"thingName":"d1","thingArn":"arn:aws:iot:eu-central-1:123456789012:thing/d1"}`), "ListThingGroupsForThing": reply(200, `{"nextToken":"same"}`)})
	_, err := b.ReadDevice(t.Context(), "d1")
	require.ErrorContains(t, err, "same page token")
}

func TestPagesWithoutAnEndAreNotFollowedForEver(t *testing.T) {
	fresh := func(body string) func(*request) *http.Response {
		return func(r *request) *http.Response { return response(200, fmt.Sprintf(body, r.nth)) }
	}
	thing := reply(200, `{"thingName":"d1","thingArn":"arn:aws:iot:eu-central-1:123456789012:thing/d1"}`)
	b, _ := onWire(t, answers{"DescribeThing": thing, "ListThingGroupsForThing": fresh(`{"nextToken":"t%d"}`)})
	_, err := b.ReadDevice(t.Context(), "d1")
	require.ErrorContains(t, err, "1000 pages in a row hold nothing")

	again := fresh(`{"certificates":[{"certificateId":"id-1","creationDate":5},{"certificateId":"id-0","creationDate":4}],"nextMarker":"m%d"}`)
	newer := fresh(`{"certificates":[{"certificateId":"id-%[1]d","creationDate":%[1]d}],"nextMarker":"m%[1]d"}`)
	for _, pages := range []func(*request) *http.Response{again, newer} {
		b, w := onWire(t, answers{"ListCertificates": pages})
		var last error
		for _, err := range b.ListCertificates(t.Context(), time.Unix(1, 0)) {
			last = err
		}
		require.ErrorContains(t, last, "go round in a circle")
		assert.Equal(t, 2, w.count("ListCertificates"))
	}
}

func TestListCertificatesGivesTheNewestFirstAndEndsAtSince(t *testing.T) {
	page := func(next string, created ...int) func(*request) *http.Response {
		var list []string
		for _, c := range created {
			list = append(list, fmt.Sprintf(`{"certificateId":"id-%d","certificateArn":"arn-%[1]d","status":"ACTIVE","creationDate":%[1]d}`, c))
		}
		return reply(200, fmt.Sprintf(`{"certificates":[%s],"nextMarker":%q}`, strings.Join(list, ","), next))
	}
	read := func(b *Backend, since int64) (ids []string) {
		for c, err := range b.ListCertificates(t.Context(), time.Unix(since, 0)) {
			require.NoError(t, err)
			ids = append(ids, c.ID)
		}
		return ids
	}
	three := inTurn(page("bQ==", 900, 800), page("cQ==", 700, 600), page("", 500))
	b, w := onWire(t, answers{"ListCertificates": three})
	assert.Equal(t, []string{"id-900", "id-800", "id-700"}, read(b, 700), "since itself is in")
	assert.Equal(t, 2, w.count("ListCertificates"), "older pages are not asked for")
	assert.Equal(t, "marker=bQ%3D%3D&pageSize=250", w.last("ListCertificates").URL.Query().Encode(), "newest first is the service's default")

	b, _ = onWire(t, answers{"ListCertificates": three})
	assert.Len(t, read(b, 0), 5)

	b, w = onWire(t, answers{"ListCertificates": three})
	for range b.ListCertificates(t.Context(), time.Time{}) {
		break
	}
	assert.Equal(t, 1, w.count("ListCertificates"))
}

func TestListCertificatesEndsWithItsError(t *testing.T) {
	b, _ := onWire(t, answers{"ListCertificates": inTurn(reply(200, `{"certificates":[{"certificateId":"a"}],"nextMarker":"m"}`),
		exception(403, "AccessDeniedException", "")), "GetCallerIdentity": knownCaller})
	var got []error
	for _, err := range b.ListCertificates(t.Context(), time.Time{}) {
		got = append(got, err)
	}
	require.Len(t, got, 2)
	require.NoError(t, got[0])
	require.ErrorIs(t, got[1], task.ErrAccessDenied)
}

func TestReadCertificateGivesPEMAndPolicies(t *testing.T) {
	b, _ := onWire(t, answers{"DescribeCertificate": inTurn(describedCertificate("INACTIVE"), missing), "ListAttachedPolicies": reply(200, `{"policies":[{"policyName":"p"}]}`)})
	c, err := b.ReadCertificate(t.Context(), certA)
	require.NoError(t, err)
	assert.Equal(t, []any{certA, "PEM of a", "INACTIVE", []string{"p"}}, []any{c.ID, c.PEM, c.Status, c.Policies})
	_, err = b.ReadCertificate(t.Context(), certA)
	require.ErrorIs(t, err, task.ErrNotFound)
	_, err = b.ReadCertificate(t.Context(), "")
	require.ErrorIs(t, err, task.ErrInvalidRequest)
}

func TestOnlyACertificateThatIsGoneIsOnNoThingsWithoutAnError(t *testing.T) {
	arn := "arn:aws:iot:eu-central-1:123456789012:cert/" + certA
	b, w := onWire(t, answers{"ListPrincipalThings": inTurn(reply(200, `{"things":["d1"],"nextToken":"t"}`), reply(200, `{"things":["d2"]}`),
		missing, exception(403, "UnauthorizedException", "no")), "GetCallerIdentity": knownCaller})
	names, err := b.CertificateThings(t.Context(), arn)
	require.NoError(t, err)
	assert.Equal(t, []string{"d1", "d2"}, names)
	assert.Equal(t, 2, w.count("ListPrincipalThings"))
	names, err = b.CertificateThings(t.Context(), arn)
	require.NoError(t, err)
	assert.Empty(t, names)
	_, err = b.CertificateThings(t.Context(), arn)
	require.ErrorIs(t, err, task.ErrAccessDenied)
	assert.ErrorContains(t, err, certA)
	_, err = b.CertificateThings(t.Context(), "")
	require.ErrorIs(t, err, task.ErrInvalidRequest)
}

func TestHasThingTakesOneRequestAndOnlyNotFoundForNo(t *testing.T) {
	b, w := onWire(t, answers{"DescribeThing": inTurn(reply(200, `{"thingName":"d1","thingArn":"arn:aws:iot:eu-central-1:123456789012:thing/d1"}`), missing, exception(400, "InvalidRequestException", "no"))})
	for _, want := range []bool{true, false} {
		has, err := b.HasThing(t.Context(), "d1")
		require.NoError(t, err)
		assert.Equal(t, want, has)
	}
	_, err := b.HasThing(t.Context(), "d1")
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	assert.ErrorContains(t, err, `"d1"`)
	assert.Equal(t, 3, w.count("DescribeThing"))
	_, err = b.HasThing(t.Context(), "")
	require.ErrorIs(t, err, task.ErrInvalidRequest)
}
