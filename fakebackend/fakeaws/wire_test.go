package fakeaws_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

// record answers one request without a connection.
func record(h http.Handler, r *http.Request) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

const iotScope = "AWS4-HMAC-SHA256 Credential=A/20260304/us-east-1/iot/aws4_request, SignedHeaders=host, Signature=00"

func TestAnErrorOfIoTHasAWSsForm(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	status, body, header := send(t, c, http.MethodGet, "/things/none", "", "Authorization", iotScope)
	assert.Equal(t, http.StatusNotFound, status)
	assert.Equal(t, "ResourceNotFoundException:", header.Get("X-Amzn-Errortype"))
	assert.Equal(t, "application/json", header.Get("Content-Type"))
	var wire struct{ Message, TraceID string }
	require.NoError(t, json.Unmarshal([]byte(body), &wire))
	assert.NotEmpty(t, wire.Message)
	assert.Equal(t, header.Get("X-Amzn-Requestid"), wire.TraceID)

	_, err := c.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String("none")})
	assert.ErrorAs(t, err, new(*iottypes.ResourceNotFoundException))
	document := aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)
	_, err = c.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: document})
	require.NoError(t, err)
	_, err = c.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: document})
	assert.ErrorAs(t, err, new(*iottypes.ResourceAlreadyExistsException))
}

func TestAnOperationTheFakeDoesNotKnowIsRefusedAndCounted(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	_, err := c.iot.ListJobs(t.Context(), &iot.ListJobsInput{})
	assert.Equal(t, "UnknownOperationException", codeOf(err))
	_, err = c.iam.ListUsers(t.Context(), &iam.ListUsersInput{})
	assert.Equal(t, "InvalidAction", codeOf(err))
	_, err = c.sts.GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
	assert.Equal(t, "InvalidAction", codeOf(err))
	assert.Equal(t, []fakeaws.Call{
		{Service: "iam", Operation: "ListUsers", Count: 1}, {Service: "iot", Operation: "GET /jobs", Count: 1}, {Service: "sts", Operation: "GetSessionToken", Count: 1},
	}, c.handler.Calls())
}

func TestAThousandUnknownOperationsAreCountedByNameAndTheRestTogether(t *testing.T) {
	h := fakeaws.NewHandler(newBackend(t, fakebackend.Options{}), fakeaws.Options{})
	for i := range 1100 {
		record(h, httptest.NewRequest("GET", fmt.Sprintf("http://iot.us-east-1.amazonaws.com/none/%d", i), nil))
	}
	calls := h.Calls()
	assert.Len(t, calls, 1001)
	assert.Contains(t, calls, fakeaws.Call{Service: "iot", Operation: "(others)", Count: 100})
}

func TestARequestGoesToTheServiceItIsMeantFor(t *testing.T) {
	h := fakeaws.NewHandler(newBackend(t, fakebackend.Options{}), fakeaws.Options{AllowUnsigned: true})
	for _, c := range []struct{ method, url, service, scope, want string }{
		{"GET", "http://x/things", "", "execute-api", "iot ListThings"},
		{"GET", "http://x/things", "", "iot", "iot ListThings"},
		{"GET", "http://x/things", "", "s3", "s3 ListObjects"},
		{"GET", "http://x/things", "", "", "iot ListThings"},
		{"GET", "http://iot.us-east-1.amazonaws.com/things", "", "", "iot ListThings"},
		{"GET", "http://things.s3.amazonaws.com/", "", "", "s3 ListObjects"},
		{"GET", "http://s3.us-east-1.amazonaws.com/things", "", "", "s3 ListObjects"},
		{"GET", "http://things.localhost:4566/things", "", "", "s3 GetObject"},
		{"GET", "http://x/bucket", "", "", "s3 ListObjects"},
		{"GET", "http://x/", "", "", "s3 ListBuckets"},
		{"POST", "http://x/", "Action=GetCallerIdentity&Version=2011-06-15", "", "sts GetCallerIdentity"},
		{"POST", "http://x/", "Action=ListRoles&Version=2010-05-08", "", "iam ListRoles"},
		{"POST", "http://x/", "Action=ListRoles&Version=2010-05-08", "iam", "iam ListRoles"},
		{"GET", "http://sts.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15", "", "", "sts GetCallerIdentity"},
	} {
		before := h.Calls()
		r := httptest.NewRequest(c.method, c.url, strings.NewReader(c.service))
		if c.service != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		}
		if c.scope != "" {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=A/20260304/us-east-1/"+c.scope+"/aws4_request, SignedHeaders=host, Signature=00")
		}
		record(h, r)
		var got strings.Builder
		for _, call := range h.Calls() {
			known := 0
			for _, old := range before {
				if old.Service == call.Service && old.Operation == call.Operation {
					known = old.Count
				}
			}
			if call.Count > known {
				got.WriteString(call.Service + " " + call.Operation)
			}
		}
		assert.Equal(t, c.want, got.String(), "%s %s %s %s", c.method, c.url, c.service, c.scope)
	}
}

func TestWithoutASignatureNothingIsAnswered(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	status, body, header := send(t, c, http.MethodGet, "/things", "")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Equal(t, "MissingAuthenticationTokenException:", header.Get("X-Amzn-Errortype"), body)
	status, body, _ = send(t, c, http.MethodGet, "/iotfleet-fake/k", "")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "<Code>AccessDenied</Code>")
	status, body, _ = send(t, c, http.MethodPost, "/", "Action=ListRoles&Version=2010-05-08", "Content-Type", "application/x-www-form-urlencoded")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "<Code>MissingAuthenticationToken</Code>")
}

func TestAWrongKeyOrSecretIsRefusedByEveryService(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{Credentials: map[string]string{"AKIATEST": "secret"}})
	for name, k := range map[string]struct{ id, secret, iot, s3, iam string }{
		"secret": {"AKIATEST", "guessed", "InvalidSignatureException", "SignatureDoesNotMatch", "SignatureDoesNotMatch"},
		"key":    {"AKIANONE", "secret", "UnrecognizedClientException", "InvalidAccessKeyId", "InvalidClientTokenId"},
	} {
		t.Run(name, func(t *testing.T) {
			config := c.config
			config.Credentials = credentials.NewStaticCredentialsProvider(k.id, k.secret, "")
			_, err := iot.NewFromConfig(config).ListThings(t.Context(), &iot.ListThingsInput{})
			assert.Equal(t, k.iot, codeOf(err))
			_, err = s3.NewFromConfig(config).ListBuckets(t.Context(), &s3.ListBucketsInput{})
			assert.Equal(t, k.s3, codeOf(err))
			_, err = iam.NewFromConfig(config).ListRoles(t.Context(), &iam.ListRolesInput{})
			assert.Equal(t, k.iam, codeOf(err))
			_, err = sts.NewFromConfig(config).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			assert.Equal(t, k.iam, codeOf(err))
		})
	}
}

func TestARequestSignedForAnotherRegionIsRefused(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	elsewhere := iot.NewFromConfig(c.config, func(o *iot.Options) { o.Region = "eu-west-1" })
	_, err := elsewhere.ListThings(t.Context(), &iot.ListThingsInput{})
	assert.Equal(t, "InvalidSignatureException", codeOf(err))
	assert.ErrorContains(t, err, "Credential should be scoped to a valid region, not 'eu-west-1'.")
}

func TestABodyThatDoesNotFitIsASerializationError(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	for path, body := range map[string]string{
		"POST /things/a":                            `{"thingTypeName":`,
		"POST /things/b":                            `[]`,
		"POST /things/c":                            `{"thingTypeName":7}`,
		"POST /things/d":                            `{"attributePayload":{"attributes":{"a":1}}}`,
		"POST /things/e":                            `{} {}`,
		"POST /certificates?setAsActive=yes":        `{"certificateSigningRequest":"x"}`,
		"GET /things?maxResults=many":               ``,
		"GET /things?maxResults=99999999999":        ``,
		"PUT /thing-groups/addThingToThingGroup":    `{"thingName":["a"]}`,
		"PUT /thing-groups/addThingToThingGroup?x=": `{"overrideDynamicGroups":"true"}`,
	} {
		method, target, _ := strings.Cut(path, " ")
		status, answer, header := send(t, c, method, target, body, "Authorization", iotScope)
		assert.Equal(t, http.StatusBadRequest, status, path)
		assert.Equal(t, "SerializationException:", header.Get("X-Amzn-Errortype"), "%s: %s", path, answer)
	}
	status, answer, _ := send(t, c, http.MethodPost, "/things/Ok", `{"thingtypename":"ignored","unknown":[{}],"billingGroupName":null}`, "Authorization", iotScope)
	assert.Equal(t, http.StatusOK, status, "members of other names, also of other case, are passed over: %s", answer)
	status, answer, _ = send(t, c, http.MethodPost, "/things/inpath", `{"thingName":"inbody"}`, "Authorization", iotScope)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, answer, `"thingName":"inpath"`)
	line, _ := newLine(t, "x")
	var row struct{ CSR string }
	require.NoError(t, json.Unmarshal([]byte(line), &row))
	raw, err := json.Marshal(map[string]any{"certificateSigningRequest": row.CSR, "setAsActive": true})
	require.NoError(t, err)
	status, answer, _ = send(t, c, http.MethodPost, "/certificates", string(raw), "Authorization", iotScope)
	require.Equal(t, http.StatusOK, status, answer)
	certificates, err := c.iot.ListCertificates(t.Context(), &iot.ListCertificatesInput{})
	require.NoError(t, err)
	assert.Equal(t, iottypes.CertificateStatusInactive, certificates.Certificates[0].Status, "a member of the query counts in the query only")
}

func TestARequestThatIsTooLargeIsToldSo(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	tooLarge := strings.Repeat("y", 4<<20) // and what is around it
	_, err := c.iot.RegisterThing(t.Context(), &iot.RegisterThingInput{TemplateBody: aws.String("{}"), Parameters: map[string]string{"x": tooLarge}})
	assert.Equal(t, "RequestEntityTooLargeException", codeOf(err))
	assert.ErrorContains(t, err, "larger than 4194304 bytes")
	assert.Equal(t, []fakeaws.Call{{Service: "iot", Operation: "RegisterThing", Count: 1, Known: true}}, c.handler.Calls())
	_, err = c.iam.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("p"), PolicyDocument: &tooLarge})
	assert.Equal(t, "RequestEntityTooLargeException", codeOf(err))
	status, _, _ := send(t, c, http.MethodPost, "/things/f", `{"x":"`+tooLarge+`"}`, "Authorization", iotScope)
	assert.Equal(t, http.StatusRequestEntityTooLarge, status)
}

func TestAMemberThatIsThereAndEmptyIsNotOneThatWasLeftOut(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	const (
		empty    = "Value '' at '%s' failed to satisfy constraint: "
		tooShort = empty + "Member must have length greater than or equal to 1"
	)
	for _, refused := range []struct{ request, body, member, want string }{
		{"POST /things/a", `{"thingTypeName":""}`, "thingTypeName", tooShort},
		{"POST /things/a", `{"billingGroupName":""}`, "billingGroupName", tooShort},
		{"PATCH /things/a", `{"thingTypeName":""}`, "thingTypeName", tooShort},
		{"POST /certificates", `{"certificateSigningRequest":""}`, "certificateSigningRequest", tooShort},
		{"POST /thing-registration-tasks", `{"templateBody":"{}","inputFileBucket":"bucket","inputFileKey":"","roleArn":"arn:aws:iam::123456789012:role/r"}`, "inputFileKey", tooShort},
		{"PUT /thing-groups/addThingToThingGroup", `{"thingName":"a","thingGroupName":""}`, "thingGroupName", tooShort},
		{"POST /thing-groups/g", `{"tags":[{"Key":"a"},{"Key":""}]}`, "tags.2.member.key", tooShort},
		{"POST /cacertificate", `{"caCertificate":"x","registrationConfig":{"templateName":""}}`, "registrationConfig.templateName", tooShort},
		{"GET /things?thingTypeName=", "", "thingTypeName", tooShort},
		{"GET /policies?marker=", "", "marker", empty + "Member must satisfy regular expression pattern: [A-Za-z0-9+/]+={0,2}"},
		{"GET /thing-registration-tasks?status=", "", "status", empty + "Member must satisfy enum value set: [InProgress, Completed, Failed, Cancelled, Cancelling]"},
		{"PUT /certificates/" + strings.Repeat("a", 64) + "?newStatus=", "", "newStatus", empty +
			"Member must satisfy enum value set: [ACTIVE, INACTIVE, REVOKED, PENDING_TRANSFER, REGISTER_INACTIVE, PENDING_ACTIVATION]"},
		{"GET /things/a/principals-v2?thingPrincipalType=", "", "thingPrincipalType", empty + "Member must satisfy enum value set: [EXCLUSIVE_THING, NON_EXCLUSIVE_THING]"},
		{"POST /thing-types/t", `{"thingTypeProperties":{"mqtt5Configuration":{"propagatingAttributes":[{"userPropertyKey":""}]}}}`,
			"thingTypeProperties.mqtt5Configuration.propagatingAttributes.1.member.userPropertyKey", empty + "Member must satisfy regular expression pattern: [a-zA-Z0-9:$.]+"},
	} {
		method, target, _ := strings.Cut(refused.request, " ")
		status, answer, header := send(t, c, method, target, refused.body, "Authorization", iotScope)
		assert.Equal(t, http.StatusBadRequest, status, refused.request)
		assert.Equal(t, "InvalidRequestException:", header.Get("X-Amzn-Errortype"), refused.request)
		var wire struct{ Message string }
		require.NoError(t, json.Unmarshal([]byte(answer), &wire))
		assert.Contains(t, wire.Message, fmt.Sprintf(refused.want, refused.member), refused.request)
	}
	for request, want := range map[string]string{ // the model lets these be empty; what refuses them is what they mean
		`POST /policies/p {"policyDocument":""}`:      "MalformedPolicyException:",
		`POST /things {"templateBody":""}`:            "InvalidRequestException:",
		`POST /things/b {"tags":[{"Key":"a"}]}`:       "",
		`POST /untag {"resourceArn":"","tagKeys":[]}`: "InvalidRequestException:",
	} {
		method, rest, _ := strings.Cut(request, " ")
		target, body, _ := strings.Cut(rest, " ")
		_, answer, header := send(t, c, method, target, body, "Authorization", iotScope)
		assert.Equal(t, want, header.Get("X-Amzn-Errortype"), answer)
		assert.NotContains(t, answer, "validation error", request)
	}
	_, err := c.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("c"), ThingTypeName: aws.String("")})
	assert.ErrorContains(t, err, fmt.Sprintf(tooShort, "thingTypeName"))
}

// AWS names every constraint of a map's keys and values and of a list's items, also those that are kept.
func TestAConstraintOnPartsOfAMapOrListHasAWSsForm(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	for request, want := range map[string]string{
		`PATCH /things/a {"attributePayload":{"attributes":{"\"state\"":"x"}}}`: `Value '{\"state\"=x}' at 'attributePayload.attributes' failed to satisfy constraint: Map keys must` +
			" satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 0," +
			" Member must satisfy regular expression pattern: [a-zA-Z0-9_.,@/:#-]+]",
		`PATCH /things/a {"attributePayload":{"attributes":{"":"x"}}}`: "Value '{=x}' at 'attributePayload.attributes' failed to satisfy constraint: Map keys must",
		`PUT /thing-groups/updateThingGroupsForThing {"thingName":"a","thingGroupsToAdd":["ok","not ok"]}`: "Value '[ok, not ok]' at 'thingGroupsToAdd' failed to satisfy" +
			" constraint: Member must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1," +
			" Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+]",
		`POST /untag {"resourceArn":"x","tagKeys":[""]}`: "Value '[]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 128,",
		// One member that breaks two constraints: first its pattern, then its length.
		"DELETE /certificates/" + strings.Repeat("-", 65): "2 validation errors detected: Value '" + strings.Repeat("-", 65) + "' at 'certificateId' failed to satisfy constraint:" +
			" Member must satisfy regular expression pattern: (0x)?[a-fA-F0-9]+; Value '" + strings.Repeat("-", 65) + "' at 'certificateId' failed to satisfy constraint:" +
			" Member must have length less than or equal to 64",
	} {
		method, rest, _ := strings.Cut(request, " ")
		target, body, _ := strings.Cut(rest, " ")
		status, answer, _ := send(t, c, method, target, body, "Authorization", iotScope)
		assert.Equal(t, http.StatusBadRequest, status, request)
		assert.Contains(t, answer, want, request)
	}
}

func TestTimestampsAreSecondsWithAFraction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2017, 11, 20, 18, 30, 2, 898_000_000, time.UTC)))
		h := fakeaws.NewHandler(newBackend(t, fakebackend.Options{}), fakeaws.Options{AllowUnsigned: true})
		record(h, httptest.NewRequest("POST", "http://x/thing-types/t", nil))
		_, body := record(h, httptest.NewRequest("GET", "http://x/thing-types/t", nil))
		assert.Contains(t, body, `"creationDate":1511202602.898`)
	})
}

func TestRolesThroughTheSDK(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{Credentials: map[string]string{"AKIATEST": "secret"}})
	ctx := t.Context()
	name := aws.String("registration")
	made, err := c.iam.CreateRole(ctx, &iam.CreateRoleInput{
		RoleName: name, AssumeRolePolicyDocument: aws.String(trust), Description: aws.String("for <tasks> & such"), MaxSessionDuration: aws.Int32(7200),
		Tags: []iamtypes.Tag{{Key: aws.String("line"), Value: aws.String("7")}, {Key: aws.String("plant"), Value: aws.String("")}},
	})
	require.NoError(t, err)
	assert.Equal(t, taskRole, *made.Role.Arn)
	got, err := c.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	require.NoError(t, err)
	document, err := url.PathUnescape(*got.Role.AssumeRolePolicyDocument)
	require.NoError(t, err)
	assert.Equal(t, trust, document)
	assert.Equal(t, "for <tasks> & such", *got.Role.Description)
	assert.EqualValues(t, 7200, *got.Role.MaxSessionDuration)
	assert.Len(t, got.Role.Tags, 2)
	assert.False(t, got.Role.CreateDate.IsZero())
	_, err = c.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(trust)})
	assert.ErrorAs(t, err, new(*iamtypes.EntityAlreadyExistsException))
	_, err = c.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("none")})
	assert.ErrorAs(t, err, new(*iamtypes.NoSuchEntityException))
	_, err = c.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: aws.String("{}")})
	assert.ErrorAs(t, err, new(*iamtypes.MalformedPolicyDocumentException))
	_, err = c.iam.TagRole(ctx, &iam.TagRoleInput{RoleName: name, Tags: []iamtypes.Tag{{Key: aws.String("more"), Value: aws.String("x")}}})
	require.NoError(t, err)
	_, err = c.iam.UntagRole(ctx, &iam.UntagRoleInput{RoleName: name, TagKeys: []string{"line", "plant"}})
	require.NoError(t, err)
	tags, err := c.iam.ListRoleTags(ctx, &iam.ListRoleTagsInput{RoleName: name})
	require.NoError(t, err)
	assert.Len(t, tags.Tags, 1)
	_, err = c.iam.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: name, Description: aws.String("")})
	require.NoError(t, err)

	for _, policy := range []string{"b", "a", "c"} {
		_, err = c.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String(policy), PolicyDocument: aws.String(readFleet)})
		require.NoError(t, err)
	}
	var names []string
	pages := iam.NewListRolePoliciesPaginator(c.iam, &iam.ListRolePoliciesInput{RoleName: name, MaxItems: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		names = append(names, page.PolicyNames...)
	}
	assert.Equal(t, []string{"a", "b", "c"}, names)
	inline, err := c.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: name, PolicyName: aws.String("a")})
	require.NoError(t, err)
	document, err = url.PathUnescape(*inline.PolicyDocument)
	require.NoError(t, err)
	assert.Equal(t, readFleet, document)

	mine, err := c.iam.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("mine"), PolicyDocument: aws.String(readFleet)})
	require.NoError(t, err)
	for _, arn := range []string{registrar, *mine.Policy.Arn} {
		_, err = c.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: name, PolicyArn: aws.String(arn)})
		require.NoError(t, err)
	}
	attached, err := c.iam.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: name})
	require.NoError(t, err)
	require.Len(t, attached.AttachedPolicies, 2)
	assert.Equal(t, "AWSIoTThingsRegistration", *attached.AttachedPolicies[0].PolicyName)
	about, err := c.iam.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: aws.String(registrar)})
	require.NoError(t, err)
	version, err := c.iam.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: aws.String(registrar), VersionId: about.Policy.DefaultVersionId})
	require.NoError(t, err)
	assert.Contains(t, *version.PolicyVersion.Document, "iot%3ACreateCertificateFromCsr")
	_, err = c.iam.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: mine.Policy.Arn, PolicyDocument: aws.String(readFleet), SetAsDefault: true})
	require.NoError(t, err)

	_, err = c.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name})
	assert.ErrorAs(t, err, new(*iamtypes.DeleteConflictException))
	for _, arn := range []string{registrar, *mine.Policy.Arn} {
		_, err = c.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: name, PolicyArn: aws.String(arn)})
		require.NoError(t, err)
	}
	for _, policy := range names {
		_, err = c.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: aws.String(policy)})
		require.NoError(t, err)
	}
	_, err = c.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name})
	require.NoError(t, err)
	roles, err := c.iam.ListRoles(ctx, &iam.ListRolesInput{})
	require.NoError(t, err)
	for _, r := range roles.Roles {
		assert.NotEqual(t, "registration", *r.RoleName)
	}
	_, err = c.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(trust), MaxSessionDuration: aws.Int32(-1)})
	assert.Equal(t, "ValidationError", codeOf(err))
}

func TestTheCallerIsAUserOfTheAccountsPartition(t *testing.T) {
	for region, want := range map[string]string{
		"eu-west-1": "arn:aws:iam::210987654321:user/fake", "cn-north-1": "arn:aws-cn:iam::210987654321:user/fake",
		"us-gov-west-1": "arn:aws-us-gov:iam::210987654321:user/fake",
	} {
		c := serve(t, fakebackend.Options{Region: region, Account: "210987654321"}, fakeaws.Options{})
		caller, err := c.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		require.NoError(t, err)
		assert.Equal(t, want, *caller.Arn)
		assert.Equal(t, "210987654321", *caller.Account)
	}
}

func TestAMissingParameterIsNamed(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{AllowUnsigned: true})
	status, body, _ := send(t, c, http.MethodPost, "/", "Action=GetRole&Version=2010-05-08", "Content-Type", "application/x-www-form-urlencoded")
	assert.Equal(t, http.StatusBadRequest, status)
	var wire struct {
		Error     struct{ Type, Code, Message string }
		RequestID string `xml:"RequestId"`
	}
	require.NoError(t, xml.Unmarshal([]byte(body), &wire))
	assert.Equal(t, "Sender", wire.Error.Type)
	assert.Equal(t, "ValidationError", wire.Error.Code)
	assert.Equal(t, "1 validation error detected: Value null at 'roleName' failed to satisfy constraint: Member must not be null", wire.Error.Message)
	assert.NotEmpty(t, wire.RequestID)
}

func TestAParameterThatBreaksIAMsModelIsRefusedInAWSsWords(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{AllowUnsigned: true})
	const constraint = " failed to satisfy constraint: "
	var tags, keys strings.Builder
	for i := range 51 {
		fmt.Fprintf(&tags, "&Tags.member.%[1]d.Key=%[2]d&Tags.member.%[1]d.Value=", i+1, i)
		fmt.Fprintf(&keys, "&TagKeys.member.%d=%d", i+1, i)
	}
	for form, want := range map[string]string{
		"Action=PutRolePolicy":                                     "3 validation errors detected: Value null at 'roleName'" + constraint + "Member must not be null; Value null at 'policyName'",
		"Action=GetRole&RoleName=":                                 "2 validation errors detected: Value '' at 'roleName'" + constraint + `Member must satisfy regular expression pattern: [\w+=,.@-]+; Value '' at 'roleName'` + constraint + "Member must have length greater than or equal to 1",
		"Action=GetRole&RoleName=" + strings.Repeat("r", 65):       "1 validation error detected: Value '" + strings.Repeat("r", 65) + "' at 'roleName'" + constraint + "Member must have length less than or equal to 64",
		"Action=AttachRolePolicy&RoleName=r&PolicyArn=short":       "1 validation error detected: Value 'short' at 'policyArn'" + constraint + "Member must have length greater than or equal to 20",
		"Action=DeleteRolePolicy&RoleName=r&PolicyName=a%20b":      "1 validation error detected: Value 'a b' at 'policyName'" + constraint + `Member must satisfy regular expression pattern: [\w+=,.@-]+`,
		"Action=CreateRole&RoleName=r&AssumeRolePolicyDocument=日本": "1 validation error detected: Value '日本' at 'assumeRolePolicyDocument'" + constraint + `Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+`,
		"Action=ListRoles&PathPrefix=plant":                        "1 validation error detected: Value 'plant' at 'pathPrefix'" + constraint + `Member must satisfy regular expression pattern: \u002F[\u0021-\u007F]*`,
		"Action=ListRoles&Marker=":                                 "2 validation errors detected: Value '' at 'marker'",
		"Action=CreateRole&RoleName=r&AssumeRolePolicyDocument=" + url.QueryEscape(trust) + "&Tags.member.1.Key=a&Tags.member.1.Value=&Tags.member.2.Key=&Tags.member.2.Value=": "2 validation errors detected: Value '' at 'tags.2.member.key'" +
			constraint + `Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+; Value '' at 'tags.2.member.key'` + constraint + "Member must have length greater than or equal to 1",
		"Action=TagRole&RoleName=r":                                             "1 validation error detected: Value null at 'tags'" + constraint + "Member must not be null",
		"Action=TagRole&RoleName=r&Tags.member.1.Key=a":                         "1 validation error detected: Value null at 'tags.1.member.value'" + constraint + "Member must not be null",
		"Action=TagRole&RoleName=r&Tags.member.1.Key=a&Tags.member.1.Value=%26": "1 validation error detected: Value '&' at 'tags.1.member.value'" + constraint + `Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*`,
		"Action=TagRole&RoleName=r" + tags.String():                             "49, 50]' at 'tags'" + constraint + "Member must have length less than or equal to 50",
		"Action=UntagRole&RoleName=r" + keys.String():                           "49, 50]' at 'tagKeys'" + constraint + "Member must have length less than or equal to 50",
		"Action=UpdateRole&RoleName=r&MaxSessionDuration=3599":                  "1 validation error detected: Value '3599' at 'maxSessionDuration'" + constraint + "Member must have value greater than or equal to 3600",
		"Action=UpdateRole&RoleName=r&MaxSessionDuration=43201":                 "1 validation error detected: Value '43201' at 'maxSessionDuration'" + constraint + "Member must have value less than or equal to 43200",
		"Action=UpdateRole&RoleName=r&MaxSessionDuration=1h":                    "at 'maxSessionDuration'" + constraint,
		"Action=UpdateRole&RoleName=r&Description=%E2%82%AC":                    "1 validation error detected: Value '€' at 'description'" + constraint + `Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*`,
		"Action=UpdateRole&RoleName=r&Description=" + strings.Repeat("d", 1001): "at 'description'" + constraint + "Member must have length less than or equal to 1000",
		"Action=CreateRole&RoleName=r&AssumeRolePolicyDocument=t&Path=plant":    "1 validation error detected: Value 'plant' at 'path'" + constraint + `Member must satisfy regular expression pattern: (\u002F)|(\u002F[\u0021-\u007E]+\u002F)`,
		"Action=CreatePolicy&PolicyName=p&PolicyDocument=t&Path=/a!b/":          "1 validation error detected: Value '/a!b/' at 'path'" + constraint + `Member must satisfy regular expression pattern: ((/[A-Za-z0-9\.,\+@=_-]+)*)/`,
		"Action=ListRoles&MaxItems=1001":                                        "1 validation error detected: Value '1001' at 'maxItems'" + constraint + "Member must have value less than or equal to 1000",
	} {
		status, body, _ := send(t, c, http.MethodPost, "/", form+"&Version=2010-05-08", "Content-Type", "application/x-www-form-urlencoded")
		assert.Equal(t, http.StatusBadRequest, status, form)
		var wire struct {
			Error struct{ Code, Message string }
		}
		require.NoError(t, xml.Unmarshal([]byte(body), &wire))
		assert.Equal(t, "ValidationError", wire.Error.Code, form)
		assert.Contains(t, wire.Error.Message, want, form)
	}
}

func TestFaultsActOnTheWire(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	c.setUp(t.Context(), t)
	line, _ := newLine(t, "device-one")
	c.upload(t.Context(), t, "k", line)
	backend := c.handler.Backend()
	set := func(f fakebackend.Fault) int {
		t.Helper()
		id, err := backend.AddFault(f)
		require.NoError(t, err)
		return id
	}
	set(fakebackend.Fault{Operation: "StartThingRegistrationTask", Do: fakebackend.Throttle})
	_, err := c.start(t.Context(), "k")
	assert.ErrorAs(t, err, new(*iottypes.ThrottlingException))

	set(fakebackend.Fault{Operation: "StartThingRegistrationTask", Do: fakebackend.DropBefore})
	_, err = c.start(t.Context(), "k")
	assert.ErrorContains(t, err, "EOF", "no answer comes")
	list, err := c.iot.ListThingRegistrationTasks(t.Context(), &iot.ListThingRegistrationTasksInput{})
	require.NoError(t, err)
	assert.Empty(t, list.TaskIds)

	set(fakebackend.Fault{Operation: "StartThingRegistrationTask", Do: fakebackend.DropAfter})
	_, err = c.start(t.Context(), "k")
	assert.ErrorContains(t, err, "EOF")
	list, err = c.iot.ListThingRegistrationTasks(t.Context(), &iot.ListThingRegistrationTasksInput{})
	require.NoError(t, err)
	require.Len(t, list.TaskIds, 1, "but the task was started")

	set(fakebackend.Fault{Operation: "PutObject", Do: fakebackend.Fail, Code: "InternalError", Status: 500, Message: "We encountered an internal error."})
	put := func() error {
		_, err := c.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("fleet"), Key: aws.String("new"), Body: strings.NewReader("x")})
		return err
	}
	assert.Equal(t, "InternalError", codeOf(put()))
	set(fakebackend.Fault{Operation: "PutObject", Do: fakebackend.Throttle})
	assert.Equal(t, "SlowDown", codeOf(put()))
	set(fakebackend.Fault{Operation: "PutObject", Do: fakebackend.DropAfter})
	assert.ErrorContains(t, put(), "EOF")
	_, err = c.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("fleet"), Key: aws.String("new")})
	assert.NoError(t, err, "the object was stored")
	set(fakebackend.Fault{Operation: "CreateRole", Do: fakebackend.Throttle})
	_, err = c.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("x"), AssumeRolePolicyDocument: aws.String(trust)})
	assert.Equal(t, "Throttling", codeOf(err))
	set(fakebackend.Fault{Operation: "CreateRole", Do: fakebackend.DropAfter})
	_, err = c.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("x"), AssumeRolePolicyDocument: aws.String(trust)})
	assert.ErrorContains(t, err, "EOF")
	_, err = c.iam.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("x")})
	assert.NoError(t, err, "the role was made")

	for _, operation := range []string{"GetRole", "HeadObject", "DescribeThing"} {
		set(fakebackend.Fault{Operation: operation, Do: fakebackend.DropAfter})
	}
	_, err = c.iam.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("nobody")})
	assert.ErrorContains(t, err, "EOF", "a refusal is lost too")
	_, err = c.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("no-such-bucket"), Key: aws.String("k")})
	assert.ErrorContains(t, err, "EOF")
	_, err = c.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String("nobody")})
	assert.ErrorContains(t, err, "EOF")

	link := c.reports(t.Context(), t, list.TaskIds[0], iottypes.ReportTypeResults)[0]
	whole := get(t, c, link)
	set(fakebackend.Fault{Operation: "GetObject", Do: fakebackend.Expire})
	status, body, _ := send(t, c, http.MethodGet, strings.TrimPrefix(link, c.url), "")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "Request has expired")
	truncated := set(fakebackend.Fault{Operation: "GetObject", Do: fakebackend.Truncate, Bytes: 100, Times: 2})
	for _, offset := range []int{0, 30} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
		require.NoError(t, err)
		if offset > 0 {
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		}
		answer, err := c.http.Do(r)
		require.NoError(t, err)
		raw, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.EqualValues(t, len(whole)-offset, answer.ContentLength, "the length is announced whole")
		assert.Equal(t, string(whole[offset:100]), string(raw))
	}
	assert.Equal(t, 2, backend.FaultHits(truncated))
	assert.Equal(t, whole, get(t, c, link), "a fault strikes as often as it was told to")
}

func TestADelayedOrHungRequestEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := newBackend(t, fakebackend.Options{})
		c := inProcess(backend, oneAttempt)
		_, err := backend.AddFault(fakebackend.Fault{Operation: "ListThings", Do: fakebackend.Delay, Delay: time.Minute})
		require.NoError(t, err)
		start := time.Now()
		_, err = c.iot.ListThings(t.Context(), &iot.ListThingsInput{})
		require.NoError(t, err)
		assert.Equal(t, time.Minute, time.Since(start))
		for _, op := range []string{"ListThings", "ListBuckets", "ListRoles"} {
			_, err := backend.AddFault(fakebackend.Fault{Operation: op, Do: fakebackend.Hang})
			require.NoError(t, err)
		}
		for _, call := range []func() error{
			func() error { _, err := c.iot.ListThings(timeout(t), &iot.ListThingsInput{}); return err },
			func() error { _, err := c.s3.ListBuckets(timeout(t), &s3.ListBucketsInput{}); return err },
			func() error { _, err := c.iam.ListRoles(timeout(t), &iam.ListRolesInput{}); return err },
		} {
			start = time.Now()
			assert.ErrorContains(t, call(), "deadline exceeded")
			assert.Equal(t, 10*time.Second, time.Since(start))
		}
	})
}

func TestReportFilesOpenByTheirLinksOnly(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	c.setUp(t.Context(), t)
	line, _ := newLine(t, "device-one")
	c.upload(t.Context(), t, "k", line+"not JSON\n")
	id, err := c.start(t.Context(), "k")
	require.NoError(t, err)
	for _, kind := range []iottypes.ReportType{iottypes.ReportTypeResults, iottypes.ReportTypeErrors} {
		link := c.reports(t.Context(), t, id, kind)[0]
		assert.Equal(t, 1, strings.Count(string(get(t, c, link)), "\n"))
		path, query, _ := strings.Cut(strings.TrimPrefix(link, c.url), "?")
		for what, target := range map[string]string{
			"no signature":   path,
			"another file":   strings.Replace(path, id+"-1", id+"-2", 1) + "?" + query,
			"a later expiry": path + "?" + strings.Replace(query, "X-Amz-Expires=86400", "X-Amz-Expires=96400", 1),
		} {
			status, body, _ := send(t, c, http.MethodGet, target, "")
			assert.Equal(t, http.StatusForbidden, status, what)
			assert.Contains(t, body, "<Error>")
		}
		bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		_, err = c.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		assert.Error(t, err, "the account's own key does not open AWS's bucket")
		status, _, _ := send(t, c, http.MethodPut, path+"?"+query, "x")
		assert.Equal(t, http.StatusForbidden, status)
	}
}

func TestTheControlInterface(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	do := func(method, path, body string, want int) string {
		t.Helper()
		status, answer, _ := send(t, c, method, "/_fake/"+path, body)
		assert.Equal(t, want, status, answer)
		return answer
	}
	assert.True(t, strings.HasPrefix(do("GET", "ca.pem", "", 200), "-----BEGIN CERTIFICATE-----\n"))
	assert.Equal(t, "[]\n", do("GET", "faults", "", 200))
	assert.JSONEq(t, `{"ids":[1]}`, do("POST", "faults", `{"operation":"ListThings","do":"throttle"}`, 200))
	assert.JSONEq(t, `{"ids":[2,3]}`, do("POST", "faults", `[{"do":"delay","operation":"ListThings","delay":"1ms"},{"line":1,"do":"fail","step":"thing"}]`, 200))
	_, err := c.iot.ListThings(t.Context(), &iot.ListThingsInput{})
	assert.Equal(t, "ThrottlingException", codeOf(err))
	assert.Contains(t, do("GET", "faults", "", 200), `"hits": 1`)
	do("DELETE", "faults?id=1", "", 204)
	assert.NotContains(t, do("GET", "faults", "", 200), `"throttle"`)
	do("DELETE", "faults", "", 204)
	assert.Equal(t, "[]\n", do("GET", "faults", "", 200))

	assert.Contains(t, do("POST", "faults", `{"do":"explode"}`, 400), "explode")
	assert.Contains(t, do("POST", "faults", `{"operation":"ListThings","do":"throttle","time":3}`, 400), "time")
	assert.Contains(t, do("POST", "faults", `[{"operation":"ListThings","do":"throttle"},{"do":"explode"}]`, 400), "explode")
	assert.Equal(t, "[]\n", do("GET", "faults", "", 200), "of a list with a bad fault none is set")
	assert.Contains(t, do("POST", "faults", `{"operation":"StartThingsRegistrationTask","do":"throttle"}`, 400), "StartThingRegistrationTask")
	do("POST", "faults", `{"operation":"ListUsers","do":"throttle"}`, 400) // AWS has it, the fake does not
	do("POST", "faults", ``, 400)
	do("POST", "faults", `"x"`, 400)
	do("DELETE", "faults?id=x", "", 400)

	_, err = c.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("a")})
	require.NoError(t, err)
	assert.True(t, json.Valid([]byte(do("GET", "state", "", 200))))
	assert.Contains(t, do("GET", "calls", "", 200), `"operation": "CreateThing"`)
	before := c.handler.Backend().Now()
	do("POST", "advance?by=24h", "", 200)
	assert.GreaterOrEqual(t, c.handler.Backend().Now().Sub(before), 24*time.Hour)
	do("POST", "advance?by=-1s", "", 400)
	do("POST", "reset", "", 204)
	list, err := c.iot.ListThings(t.Context(), &iot.ListThingsInput{})
	require.NoError(t, err)
	assert.Empty(t, list.Things)
	assert.Contains(t, do("GET", "nothing", "", 404), "advance, ca.pem, calls, events, faults, reset, root.pem, snapshot, state")
	do("GET", "", "", 404)
	for path, allowed := range map[string]string{"ca.pem": "GET", "reset": "POST", "faults": "DELETE, GET, POST"} {
		status, answer, header := send(t, c, http.MethodPut, "/_fake/"+path, "")
		assert.Equal(t, http.StatusMethodNotAllowed, status, path)
		assert.Equal(t, allowed, header.Get("Allow"), path)
		assert.Contains(t, answer, "not PUT", path)
	}
	do("GET", "reset", "", 405)
	do("HEAD", "state", "", 200)
}

func TestTheLogTellsNoSecrets(t *testing.T) {
	var b strings.Builder
	c := serve(t, fakebackend.Options{}, fakeaws.Options{Logger: newLogger(&b)})
	c.setUp(t.Context(), t)
	line, _ := newLine(t, "device-one")
	c.upload(t.Context(), t, "k", line)
	id, err := c.start(t.Context(), "k")
	require.NoError(t, err)
	link := c.reports(t.Context(), t, id, iottypes.ReportTypeResults)[0]
	get(t, c, link)
	c.server.Close()
	assert.Contains(t, b.String(), "operation=GetObject status=200")
	for _, secret := range []string{"X-Amz", "Signature", "BEGIN", id, "secret"} {
		assert.NotContains(t, b.String(), secret)
	}
}

func TestACertificateWithItsKeyIsGivenToTheCallerOnly(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	out, err := c.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(*out.KeyPair.PrivateKey, "-----BEGIN RSA PRIVATE KEY-----\n"))
	state := get(t, c, c.url+"/_fake/state")
	assert.NotContains(t, string(state), "PRIVATE")
}

func newLogger(b *strings.Builder) *slog.Logger {
	var mu sync.Mutex
	return slog.New(slog.NewTextHandler(lockedWriter{&mu, b}, nil))
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

// timeout is a context of ten seconds.
func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
