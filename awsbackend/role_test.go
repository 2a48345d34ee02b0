package awsbackend

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// walkthroughTrust is the trust policy of AWS's walkthrough, as it stands there.
const walkthroughTrust = `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "",
      "Effect": "Allow",
      "Principal": {
        "Service": "iot.amazonaws.com"
      },
      "Action": "sts:AssumeRole"
    }
  ]
}`

const (
	roleARN    = "arn:aws:iam::123456789012:role/fleet-registration"
	managedARN = "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"
)

var roleInput = &task.RoleInput{Name: "fleet-registration"}

func TestTheRolesDocumentsAreThoseOfTheWalkthrough(t *testing.T) {
	d, err := RoleDocuments("us-east-1", "", "fleet-bucket", roleInput)
	require.NoError(t, err)
	assert.JSONEq(t, strings.Replace(walkthroughTrust, `"Sid": "",`, "", 1), d.TrustPolicy)
	assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet-bucket/*"}]}`, d.Policy)
	assert.Equal(t, managedARN, d.ManagedPolicyARN)
	assert.Equal(t, "iotfleet-read-fleet-bucket", d.PolicyName)
	for _, part := range []string{d.TrustPolicy, d.Policy, d.ManagedPolicyARN, "create-role --role-name fleet-registration"} {
		assert.Contains(t, d.String(), part)
	}
}

func TestTheRolesDocumentsFollowPartitionPrefixKeyAndGuard(t *testing.T) {
	for region, partition := range map[string]string{"cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "eu-central-1": "aws"} {
		key := fmt.Sprintf("arn:%s:kms:%s:123456789012:key/mrk-1234", partition, region)
		d, err := RoleDocuments(region, "123456789012", "fleet-bucket", &task.RoleInput{
			Name: "r", SourceGuard: true, KMSKeyARN: key, ObjectPrefix: "in/run-7/"})
		require.NoError(t, err)
		assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},
			"Action":"sts:AssumeRole","Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"}}}]}`, d.TrustPolicy)
		assert.JSONEq(t, fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:%s:s3:::fleet-bucket/in/run-7/*"},
			{"Effect":"Allow","Action":"kms:Decrypt","Resource":"%s"}]}`, partition, key), d.Policy)
		assert.Equal(t, "arn:"+partition+":iam::aws:policy/service-role/AWSIoTThingsRegistration", d.ManagedPolicyARN)
	}
}

func TestRoleInputThatBreaksARuleIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		region, account, bucket string
		in                      *task.RoleInput
	}{
		"nil":             {inRegion, "", "fleet-bucket", nil},
		"no region":       {"", "", "fleet-bucket", roleInput},
		"prefix of none":  {inRegion, "", "", &task.RoleInput{Name: "r", ObjectPrefix: "in/"}},
		"key of none":     {inRegion, "", "", &task.RoleInput{Name: "r", KMSKeyARN: "arn:aws:kms:eu-central-1:123456789012:key/x"}},
		"bucket wildcard": {inRegion, "", "fleet-*", roleInput},
		"name":            {inRegion, "", "fleet-bucket", &task.RoleInput{Name: "a/b"}},
		"name too long":   {inRegion, "", "fleet-bucket", &task.RoleInput{Name: strings.Repeat("r", 65)}},
		"guard, account":  {inRegion, "", "fleet-bucket", &task.RoleInput{Name: "r", SourceGuard: true}},
		"prefix wildcard": {inRegion, "", "fleet-bucket", &task.RoleInput{Name: "r", ObjectPrefix: "in/*"}},
		"key alias":       {inRegion, "", "fleet-bucket", &task.RoleInput{Name: "r", KMSKeyARN: "alias/fleet"}},
		"quote in key":    {inRegion, "", "fleet-bucket", &task.RoleInput{Name: "r", KMSKeyARN: `arn:aws:kms:r:123456789012:key/x"`}},
	} {
		_, err := RoleDocuments(c.region, c.account, c.bucket, c.in)
		require.ErrorIs(t, err, task.ErrInvalidRequest, name)
	}
}

func TestARoleWithoutABucketReadsNoDataFiles(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		state := &iamState{inline: map[string]string{}}
		b, w := onWireWith(t, Options{Prefix: "in", KMSKeyID: "alias/fleet"}, state.answers())
		for range 2 {
			arn, err := b.EnsureRole(t.Context(), &task.RoleInput{Name: "fleet-registration"})
			require.NoError(t, err)
			assert.Equal(t, roleARN, arn)
		}
		assert.Zero(t, w.count("PutRolePolicy"))
		assert.Equal(t, 1, w.count("AttachRolePolicy"))
	})
	d, err := RoleDocuments(inRegion, "", "", &task.RoleInput{Name: "jitp"})
	require.NoError(t, err)
	assert.Empty(t, d.Policy)
	assert.NotContains(t, d.String(), "put-role-policy")
	const withoutCA = `{"Effect":"Allow","Action":"iot:RegisterCertificateWithoutCA","Resource":"*"}`
	d, err = RoleDocuments(inRegion, "", "", &task.RoleInput{Name: "vendor", RegisterWithoutCA: true})
	require.NoError(t, err)
	assert.Equal(t, "iotfleet-without-ca", d.PolicyName)
	assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[`+withoutCA+`]}`, d.Policy)
	d, err = RoleDocuments(inRegion, "", "fleet-bucket", &task.RoleInput{Name: "vendor", RegisterWithoutCA: true})
	require.NoError(t, err)
	assert.Equal(t, "iotfleet-read-fleet-bucket-without-ca", d.PolicyName, "so that a role without it leaves this one alone")
	assert.Contains(t, d.Policy, "iot:RegisterCertificateWithoutCA")
	assert.Contains(t, d.Policy, "s3:GetObject")
}

// iamState is a role in a small IAM.
type iamState struct {
	trust    string // empty: there is no role
	created  time.Time
	inline   map[string]string
	attached []string
	unseen   int // how many more GetRole do not see a new role yet
}

func (s *iamState) answers() answers {
	getRole := func(*request) *http.Response {
		return query("GetRole", fmt.Sprintf("<Role><Path>/</Path><RoleName>fleet-registration</RoleName><Arn>%s</Arn><CreateDate>%s</CreateDate><AssumeRolePolicyDocument>%s</AssumeRolePolicyDocument></Role>",
			roleARN, s.created.UTC().Format(time.RFC3339), url.PathEscape(s.trust)))(nil)
	}
	none := queryError(404, "NoSuchEntity", "cannot be found")
	form := func(r *request, name string) string {
		v, _ := url.ParseQuery(r.body)
		return v.Get(name)
	}
	return answers{
		"GetRole": func(r *request) *http.Response {
			if s.trust == "" {
				return none(r)
			}
			if s.unseen > 0 {
				s.unseen--
				return none(r)
			}
			return getRole(r)
		},
		"CreateRole": func(r *request) *http.Response {
			s.trust, s.created = form(r, "AssumeRolePolicyDocument"), time.Now()
			return query("CreateRole", "<Role><Arn>"+roleARN+"</Arn></Role>")(r)
		},
		"UpdateAssumeRolePolicy": func(r *request) *http.Response {
			s.trust = form(r, "PolicyDocument")
			return query("UpdateAssumeRolePolicy", "")(r)
		},
		"GetRolePolicy": func(r *request) *http.Response {
			doc, ok := s.inline[form(r, "PolicyName")]
			if !ok {
				return none(r)
			}
			return query("GetRolePolicy", "<PolicyDocument>"+url.PathEscape(doc)+"</PolicyDocument>")(r)
		},
		"PutRolePolicy": func(r *request) *http.Response {
			if s.inline == nil {
				s.inline = map[string]string{}
			}
			s.inline[form(r, "PolicyName")] = form(r, "PolicyDocument")
			return query("PutRolePolicy", "")(r)
		},
		"ListRolePolicies": func(r *request) *http.Response {
			var members strings.Builder
			for name := range s.inline {
				members.WriteString("<member>" + name + "</member>")
			}
			return query("ListRolePolicies", "<PolicyNames>"+members.String()+"</PolicyNames><IsTruncated>false</IsTruncated>")(r)
		},
		"ListAttachedRolePolicies": func(r *request) *http.Response {
			var members strings.Builder
			for _, arn := range s.attached {
				members.WriteString("<member><PolicyArn>" + arn + "</PolicyArn></member>")
			}
			return query("ListAttachedRolePolicies", "<AttachedPolicies>"+members.String()+"</AttachedPolicies><IsTruncated>false</IsTruncated>")(r)
		},
		"AttachRolePolicy": func(r *request) *http.Response {
			s.attached = append(s.attached, form(r, "PolicyArn"))
			return query("AttachRolePolicy", "")(r)
		},
		"GetPolicy": func(r *request) *http.Response {
			return query("GetPolicy", "<Policy><DefaultVersionId>v3</DefaultVersionId></Policy>")(r)
		},
		"GetPolicyVersion": func(r *request) *http.Response {
			return query("GetPolicyVersion", "<PolicyVersion><Document>"+url.PathEscape(registrationDocument)+"</Document></PolicyVersion>")(r)
		},
		"GetCallerIdentity": knownCaller, endpointOp: dataEndpoint,
	}
}

func TestEnsureRoleMakesTheRoleAndWaitsUntilItCanBeAssumed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		state := &iamState{unseen: 2}
		b, w := onWire(t, state.answers())
		want, err := RoleDocuments(inRegion, "", "fleet-bucket", &task.RoleInput{Name: "fleet-registration", ObjectPrefix: "in/"})
		require.NoError(t, err)
		begin := time.Now()
		arn, err := b.EnsureRole(t.Context(), roleInput)
		require.NoError(t, err)
		assert.Equal(t, roleARN, arn)
		assert.Equal(t, want.TrustPolicy, state.trust)
		assert.Equal(t, map[string]string{want.PolicyName: want.Policy}, state.inline, "the backend's prefix is the limit")
		assert.Equal(t, []string{managedARN}, state.attached)
		assert.InDelta(t, 31.5, time.Since(begin).Seconds(), 0.2, "0.5 s and 1 s until IAM shows it, 30 s to spread")

		time.Sleep(time.Minute)
		begin = time.Now()
		before := len(w.ops())
		again, err := b.EnsureRole(t.Context(), roleInput)
		require.NoError(t, err)
		assert.Equal(t, arn, again)
		assert.Equal(t, []string{"GetRole", "GetRolePolicy", "ListAttachedRolePolicies"}, w.ops()[before:], "nothing is written again")
		assert.Zero(t, time.Since(begin))
	})
}

func TestEnsureRoleWaitsAlsoForARoleMadeAMomentAgo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		state := &iamState{}
		b, _ := onWire(t, state.answers())
		_, err := b.EnsureRole(t.Context(), roleInput)
		require.NoError(t, err)
		state.created = time.Now().Add(-4 * time.Second) // by a run that ended before its wait
		begin := time.Now()
		_, err = b.EnsureRole(t.Context(), roleInput)
		require.NoError(t, err)
		assert.Equal(t, 26*time.Second, time.Since(begin))

		state.created = time.Now().Add(time.Hour) // the clocks differ
		begin = time.Now()
		_, err = b.EnsureRole(t.Context(), roleInput)
		require.NoError(t, err)
		assert.Equal(t, rolePropagation, time.Since(begin))
	})
}

func TestEnsureRoleWaitsAfterEachChangeOfAnOldRole(t *testing.T) {
	docs, err := RoleDocuments(inRegion, "", "fleet-bucket", &task.RoleInput{Name: "fleet-registration", ObjectPrefix: "in/"})
	require.NoError(t, err)
	inline := map[string]string{docs.PolicyName: docs.Policy}
	for name, state := range map[string]*iamState{
		"trust":    {trust: `{"Statement":[]}`, inline: inline, attached: []string{managedARN}},
		"inline":   {trust: walkthroughTrust, attached: []string{managedARN}},
		"attached": {trust: walkthroughTrust, inline: inline},
	} {
		inBubble(t, func(t *testing.T) {
			b, _ := onWire(t, state.answers())
			begin := time.Now()
			_, err := b.EnsureRole(t.Context(), roleInput)
			require.NoError(t, err)
			assert.Equal(t, rolePropagation, time.Since(begin), name)
		})
	}
}

func TestTheFakeNeedsNoWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := (&iamState{}).answers()
		for op, answer := range a {
			a[op] = marked(answer)
		}
		b, _ := onWire(t, a)
		begin := time.Now()
		_, err := b.EnsureRole(t.Context(), roleInput)
		require.NoError(t, err)
		assert.Zero(t, time.Since(begin))
	})
}

func TestARoleMadeByTheWalkthroughIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		state := &iamState{trust: walkthroughTrust, attached: []string{managedARN},
			inline: map[string]string{"read-bucket": `{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}`}}
		b, w := onWire(t, state.answers())
		_, err := b.EnsureRole(t.Context(), roleInput)
		require.NoError(t, err)
		assert.Equal(t, walkthroughTrust, state.trust)
		assert.Zero(t, w.count("AttachRolePolicy"))
		assert.Len(t, state.inline, 2, "its own policy is added, the other left alone")
	})
}

func TestATrustPolicyIsReplacedOnlyWhenNobodyElseNeedsIt(t *testing.T) {
	service := func(names ...string) string {
		return `{"Statement":[{"Effect":"Allow","Principal":{"Service":["` + strings.Join(names, `","`) + `"]},"Action":"sts:AssumeRole"}]}`
	}
	const guard = `{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole",
		"Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"}}}`
	const deny = `{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`
	const guarded = `{"Statement":` + guard + `}`
	for name, c := range map[string]struct {
		trust   string
		guard   bool
		updated bool
		kind    error
	}{
		"as asked":                          {service("iot.amazonaws.com"), false, false, nil},
		"others as well, IoT is in":         {service("iot.amazonaws.com", "lambda.amazonaws.com"), false, false, nil},
		"guarded though not asked":          {guarded, false, false, nil},
		"guarded as asked":                  {guarded, true, false, nil},
		"guarded by more than asked":        {strings.Replace(guarded, `"Condition":{`, `"Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:iot:*"},`, 1), true, false, nil},
		"guarded, and some are denied":      {`{"Statement":[` + deny + `,` + guard + `]}`, true, false, nil},
		"guard is missing":                  {service("iot.amazonaws.com"), true, true, nil},
		"guarded for another account":       {strings.Replace(guarded, "1234", "9999", 1), true, true, nil},
		"nobody":                            {`{"Statement":[]}`, false, true, nil},
		"only somebody else":                {service("lambda.amazonaws.com"), false, false, task.ErrConflict},
		"an account, no guard, guard asked": {`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:root","Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`, true, false, task.ErrConflict},
		"anyone":                            {`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}`, false, false, task.ErrConflict},
		"not JSON":                          {`{`, false, false, task.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				b, w := onWire(t, (&iamState{trust: c.trust}).answers())
				_, err := b.EnsureRole(t.Context(), &task.RoleInput{Name: "fleet-registration", SourceGuard: c.guard})
				if c.kind != nil {
					require.ErrorIs(t, err, c.kind)
					assert.Zero(t, w.count("PutRolePolicy"))
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, c.updated, w.count("UpdateAssumeRolePolicy") == 1)
			})
		})
	}
}

func TestEnsureRoleGrantsTheBackendsKMSKey(t *testing.T) {
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	arn := "arn:aws:kms:eu-central-1:123456789012:key/" + id
	for _, key := range []string{id, arn} {
		inBubble(t, func(t *testing.T) {
			state := &iamState{}
			b, _ := onWireWith(t, Options{Bucket: "fleet-bucket", KMSKeyID: key}, state.answers())
			_, err := b.EnsureRole(t.Context(), roleInput)
			require.NoError(t, err)
			assert.Contains(t, state.inline["iotfleet-read-fleet-bucket"], `"`+arn+`"`)
		})
	}
	b, _ := onWireWith(t, Options{Bucket: "fleet-bucket", KMSKeyID: "alias/fleet"}, (&iamState{}).answers())
	_, err := b.EnsureRole(t.Context(), roleInput)
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	assert.ErrorContains(t, err, "alias")
}

func TestTwoPrefixesOfABucketCanShareARole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		state := &iamState{}
		b, _ := onWire(t, state.answers())
		for _, prefix := range []string{"plant-a/", "plant-b/", "plant-a/"} {
			_, err := b.EnsureRole(t.Context(), &task.RoleInput{Name: "fleet-registration", ObjectPrefix: prefix})
			require.NoError(t, err)
		}
		all := strings.Join(slices.Collect(maps.Values(state.inline)), "")
		for _, prefix := range []string{"plant-a/", "plant-b/"} {
			assert.Equal(t, 1, strings.Count(all, `"arn:aws:s3:::fleet-bucket/`+prefix+`*"`), "%s may not take it from another", prefix)
		}
	})
}

func TestEnsureRoleThatIsDeniedNamesTheAction(t *testing.T) {
	a := (&iamState{}).answers()
	a["CreateRole"] = queryError(403, "AccessDenied", "User: arn:aws:iam::123456789012:user/jo is not authorized to perform: iam:CreateRole on resource: "+roleARN)
	b, _ := onWire(t, a)
	_, err := b.EnsureRole(t.Context(), roleInput)
	require.ErrorIs(t, err, task.ErrAccessDenied)
	assert.ErrorContains(t, err, "missing permission iam:CreateRole for arn:aws:iam::123456789012:user/jo on "+roleARN)
	_, err = b.EnsureRole(t.Context(), nil)
	require.ErrorIs(t, err, task.ErrInvalidRequest)
}

func TestTwoWhoMakeTheRoleAtOnceBothSucceed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		state := &iamState{}
		a := state.answers()
		a["CreateRole"] = func(r *request) *http.Response {
			state.trust = walkthroughTrust
			return queryError(409, "EntityAlreadyExists", "exists")(r)
		}
		b, _ := onWire(t, a)
		arn, err := b.EnsureRole(t.Context(), roleInput)
		require.NoError(t, err)
		assert.Equal(t, roleARN, arn)
	})
}
