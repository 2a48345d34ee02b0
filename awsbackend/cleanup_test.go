package awsbackend

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cleanup answers everything that a removal asks: certificate a is on thing d1 alone.
func cleanup(status string) answers {
	return answers{
		"DescribeCertificate":  describedCertificate(status),
		"ListAttachedPolicies": reply(200, `{"policies":[{"policyName":"p1"},{"policyName":"p2"}]}`),
		"ListPrincipalThings":  reply(200, `{"things":["d1"]}`),
		"DetachThingPrincipal": reply(200, `{}`), "DetachPolicy": reply(200, ``), "UpdateCertificate": reply(200, ``), "DeleteCertificate": reply(200, ``),
		"ListThingPrincipals": reply(200, `{"principals":[]}`), "DeleteThing": reply(200, `{}`),
		"GetPolicy":            reply(200, `{"policyName":"p1","policyDocument":"{ \"Version\": \"2012-10-17\" }"}`),
		"ListTargetsForPolicy": reply(200, `{"targets":[]}`), "DeletePolicy": reply(200, ``),
		"ListPolicyVersions": reply(200, `{"policyVersions":[{"versionId":"1","isDefaultVersion":true}]}`),
	}
}

func TestACertificateOfOneThingIsDetachedDeactivatedAndDeleted(t *testing.T) {
	b, w := onWire(t, cleanup("ACTIVE"))
	others, err := b.RetireCertificate(t.Context(), "d1", certA)
	require.NoError(t, err)
	assert.Empty(t, others)
	assert.Equal(t, []string{"DescribeCertificate", "ListAttachedPolicies", "ListPrincipalThings", "DetachThingPrincipal",
		"UpdateCertificate", "DetachPolicy", "DetachPolicy", "DeleteCertificate"}, w.ops())
	assert.Equal(t, "INACTIVE", w.last("UpdateCertificate").URL.Query().Get("newStatus"))
	assert.Equal(t, "p2", lastSegment(w.last("DetachPolicy")))
	assert.JSONEq(t, fmt.Sprintf(`{"target":%q}`, certARN(certA)), w.last("DetachPolicy").body)
	assert.Equal(t, "/things/d1/principals", w.last("DetachThingPrincipal").URL.Path)
	assert.Equal(t, certARN(certA), w.last("DetachThingPrincipal").Header.Get("X-Amzn-Principal"))
	assert.Equal(t, certA, lastSegment(w.last("DeleteCertificate")))
}

func TestACertificateOfOtherThingsTooIsOnlyDetached(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := cleanup("ACTIVE")
		both := []func(*request) *http.Response{reply(200, `{"things":["d1"],"nextToken":"2"}`), reply(200, `{"things":["d2"]}`)}
		// AWS detaches with a delay: the thing is still seen once.
		a["ListPrincipalThings"] = inTurn(both[0], both[1], both[0], both[1], reply(200, `{"things":["d2"]}`))
		b, w := onWire(t, a)
		others, err := b.RetireCertificate(t.Context(), "d1", certA)
		require.NoError(t, err)
		assert.Equal(t, []string{"d2"}, others)
		assert.Equal(t, 5, w.count("ListPrincipalThings"), "it is seen to be detached")
		assert.Zero(t, w.count("UpdateCertificate")+w.count("DetachPolicy")+w.count("DeleteCertificate"), "d2 keeps its certificate")

		others, err = b.RetireCertificate(t.Context(), "d1", certA)
		require.NoError(t, err, "again, after the answer was lost")
		assert.Equal(t, []string{"d2"}, others)
		assert.Equal(t, 6, w.count("ListPrincipalThings"))
		assert.Zero(t, w.count("DeleteCertificate"))
	})
}

func TestWhatIsGoneAlreadyIsRemoved(t *testing.T) {
	b, w := onWire(t, answers{"DescribeCertificate": missing, "ListThingPrincipals": missing, "GetPolicy": missing})
	others, err := b.RetireCertificate(t.Context(), "d1", certA)
	require.NoError(t, err)
	principals, err := b.RemoveThing(t.Context(), "d1")
	require.NoError(t, err)
	targets, err := b.RemovePolicy(t.Context(), "p1", `{"Version":"2012-10-17"}`)
	require.NoError(t, err)
	assert.Empty(t, others)
	assert.Empty(t, principals)
	assert.Empty(t, targets)
	assert.Len(t, w.ops(), 3)

	a := cleanup("INACTIVE")
	for _, op := range []string{"DetachThingPrincipal", "DetachPolicy", "DeleteCertificate", "DeleteThing", "DeletePolicy"} {
		a[op] = missing
	}
	b, w = onWire(t, a)
	_, err = b.RetireCertificate(t.Context(), "d1", certA)
	require.NoError(t, err)
	assert.Zero(t, w.count("UpdateCertificate"), "it is inactive already")
	_, err = b.RemoveThing(t.Context(), "d1")
	require.NoError(t, err)
	_, err = b.RemovePolicy(t.Context(), "p1", `{"Version":"2012-10-17"}`)
	require.NoError(t, err)

	_, err = b.RetireCertificate(t.Context(), "", certA)
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	_, err = b.RetireCertificate(t.Context(), "d1", "")
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	_, err = b.RemoveThing(t.Context(), "")
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	_, err = b.RemovePolicy(t.Context(), "", "{}")
	require.ErrorIs(t, err, task.ErrInvalidRequest)
}

// TestNothingIsCalledRemovedWhenAStepWasRefused refuses one step after the other.
func TestNothingIsCalledRemovedWhenAStepWasRefused(t *testing.T) {
	for _, op := range []string{"DescribeCertificate", "ListAttachedPolicies", "ListPrincipalThings", "DetachThingPrincipal", "DetachPolicy",
		"UpdateCertificate", "DeleteCertificate", "ListThingPrincipals", "DeleteThing", "GetPolicy", "ListTargetsForPolicy", "ListPolicyVersions", "DeletePolicy"} {
		t.Run(op, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				a := cleanup("ACTIVE")
				a["GetCallerIdentity"] = knownCaller
				a[op] = exception(403, "AccessDeniedException", "no")
				b, w := onWire(t, a)
				named := "p1"
				var err error
				switch op {
				case "ListThingPrincipals", "DeleteThing":
					named = "d1"
					_, err = b.RemoveThing(t.Context(), "d1")
				case "GetPolicy", "ListTargetsForPolicy", "ListPolicyVersions", "DeletePolicy":
					_, err = b.RemovePolicy(t.Context(), "p1", `{"Version":"2012-10-17"}`)
				default:
					named = certA
					_, err = b.RetireCertificate(t.Context(), "d1", certA)
					assert.Equal(t, op == "DeleteCertificate", w.count("DeleteCertificate") > 0, "nothing is deleted before all is detached")
				}
				require.ErrorIs(t, err, task.ErrAccessDenied)
				assert.ErrorContains(t, err, named)
			})
		})
	}
}

func TestADeletionRefusedWhileDetachingGoesOnIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		conflict := exception(409, "DeleteConflictException", "Things must be detached before deletion")
		for op, c := range map[string]struct {
			refusal func(*request) *http.Response
			call    func(*Backend) error
			named   string
			seconds float64 // until it is given up
		}{
			"DeleteCertificate": {conflict, func(b *Backend) error {
				_, err := b.RetireCertificate(t.Context(), "d1", certA)
				return err
			}, certA, 31.5},
			"DeleteThing": {exception(400, "InvalidRequestException", "Cannot delete. Thing d1 is still attached to one or more principals"), func(b *Backend) error {
				_, err := b.RemoveThing(t.Context(), "d1")
				return err
			}, "d1", 31.5},
			"DeletePolicy": {conflict, func(b *Backend) error {
				_, err := b.RemovePolicy(t.Context(), "p1", `{"Version":"2012-10-17"}`)
				return err
			}, "p1", 7.5 + 43*8},
		} {
			a := cleanup("ACTIVE")
			a[op] = inTurn(c.refusal, c.refusal, c.refusal, reply(200, ``))
			b, w := onWire(t, a)
			require.NoError(t, c.call(b), op)
			assert.Equal(t, 4, w.count(op), op)

			a[op] = c.refusal
			b, _ = onWire(t, a)
			begin := time.Now()
			err := c.call(b)
			require.ErrorIs(t, err, task.ErrConflict, op)
			assert.ErrorContains(t, err, c.named, op)
			assert.InEpsilon(t, c.seconds, time.Since(begin).Seconds(), 0.1, op)
		}
	})
}

func TestAThingWithPrincipalsAndAPolicyWithTargetsStay(t *testing.T) {
	a := cleanup("ACTIVE")
	arns := fmt.Sprintf(`[%q,"eu-central-1:cognito-identity"]`, certARN(certA))
	a["ListThingPrincipals"], a["ListTargetsForPolicy"] = reply(200, `{"principals":`+arns+`}`), reply(200, `{"targets":`+arns+`}`)
	b, w := onWire(t, a)
	want := []string{certARN(certA), "eu-central-1:cognito-identity"}
	got, err := b.RemoveThing(t.Context(), "d1")
	require.NoError(t, err)
	assert.Equal(t, want, got)
	got, err = b.RemovePolicy(t.Context(), "p1", `{"Version":"2012-10-17"}`)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	a["ListTargetsForPolicy"] = reply(200, `{"targets":[]}`)
	a["ListPolicyVersions"] = reply(200, `{"policyVersions":[{"versionId":"2","isDefaultVersion":true},{"versionId":"1"}]}`)
	_, err = b.RemovePolicy(t.Context(), "p1", `{"Version":"2012-10-17"}`)
	require.ErrorIs(t, err, task.ErrConflict, "somebody has edited it")
	assert.ErrorContains(t, err, "2 versions")
	_, err = b.RemovePolicy(t.Context(), "p1", `{"Version":"2008-10-17"}`)
	require.ErrorIs(t, err, task.ErrConflict, "it is another policy")
	_, err = b.RemovePolicy(t.Context(), "p1", "")
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	assert.Zero(t, w.count("DeleteThing")+w.count("DeletePolicy"))
}
