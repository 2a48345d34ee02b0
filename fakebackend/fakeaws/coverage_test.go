package fakeaws

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/operation"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

var update = flag.Bool("update", false, "write docs/coverage.md")

// TestTheCoveragePageSaysWhatTheRoutesSay generates docs/coverage.md from the route tables and the AWS SDK's inputs,
// and compares. With -update it writes the page.
func TestTheCoveragePageSaysWhatTheRoutesSay(t *testing.T) {
	page := coveragePage(t)
	file := filepath.Join("..", "..", "docs", "coverage.md")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(page), 0o644))
	}
	held, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, page, string(held), "run: go test ./fakebackend/fakeaws -run Coverage -update")
}

// iotOperations are the entries of the fake's table of AWS IoT's operations.
func iotOperations(t *testing.T) []*restjson.Operation {
	t.Helper()
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	return wire.Of(fake).Operations()
}

// operations are the names of a client's operations, and members the names of one's input members.
func operations(client any) []string {
	var out []string
	for m := range reflect.TypeOf(client).Methods() {
		if m.Type.NumIn() >= 3 && m.Type.NumOut() == 2 && strings.HasSuffix(m.Type.In(2).String(), m.Name+"Input") {
			out = append(out, m.Name)
		}
	}
	return out
}

func members(t *testing.T, client any, operation string) []string {
	t.Helper()
	m, ok := reflect.TypeOf(client).MethodByName(operation)
	require.True(t, ok, "the SDK has no %s", operation)
	var out []string
	for f := range m.Type.In(2).Elem().Fields() {
		if f.IsExported() {
			out = append(out, f.Name)
		}
	}
	return out
}

func coveragePage(t *testing.T) string {
	var b strings.Builder
	b.WriteString(`# What the fake speaks

Generated from the tables of operations in packages fakebackend and fakeaws by the tests of fakeaws (` + "`go test ./fakebackend/fakeaws -run Coverage -update`" + `); do not edit.

The members are those of an operation's input, by the names the API model (IoT, IAM, STS) or AWS's SDKs (S3) give them. What is not modelled
is accepted and has no effect, except where that would make the answer wrong: a VersionId other than null (NotImplemented, and NoSuchVersion for an
object to copy), a PartNumber to read, tags, locks, grants and own keys of an object, permissions boundaries (NotImplemented) and checksums of
other algorithms (InvalidRequest) are refused. An operation that is not here is refused as AWS refuses an unknown one, and counted: see
` + "`GET /_fake/calls`" + `. How faithful the behaviour behind each operation is: [fidelity.md](fidelity.md).

`)
	iotClient := &iot.Client{}
	fmt.Fprintf(&b, "## AWS IoT\n\n%d of the %d operations of the control plane.\n\n| operation | request | members | not modelled |\n|---|---|---|---|\n",
		len(iotOperations(t)), len(operations(iotClient)))
	for _, o := range iotOperations(t) {
		var have []string
		known := members(t, iotClient, o.Name)
		for _, m := range o.Members {
			have = append(have, m.Name)
			assert.True(t, slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, m.Name) }), "%s has no %s", o.Name, m.Name)
		}
		writeRow(&b, o.Name, o.Method+" "+o.Path, have, missing(known, have, lowerFirst))
	}
	s3Client := &s3.Client{}
	fmt.Fprintf(&b, "\n## Amazon S3\n\n%d of %d operations: those that the AWS CLI's s3 mb, cp, ls, rm, sync and presign, boto3's upload_file, "+
		"download_file and listings,\nthe upload managers of the Go SDK and presigned links use. Copies are there because cp and sync make them when both "+
		"sides are in S3, as for a data\nfile that lies in another region's bucket; GetObjectTagging answers that there are no tags, because version 2 of "+
		"the CLI asks before it copies in parts.\nEvery one that has them also takes Bucket, Key and ExpectedBucketOwner.\n\n"+
		"| operation | request | members | not modelled |\n|---|---|---|---|\n", len(s3Operations), len(operations(s3Client)))
	everywhere := []string{"Bucket", "Key", "ExpectedBucketOwner"}
	for _, r := range s3Operations {
		var have []string
		if r.members != "" {
			have = strings.Split(r.members, ", ")
		}
		known := members(t, s3Client, r.name)
		for _, name := range have {
			assert.Contains(t, known, name, r.name)
		}
		request := r.method + " " + map[target]string{onService: "/", onBucket: "/{Bucket}", onObject: "/{Bucket}/{Key}"}[r.on]
		if r.query != "" {
			request += "?" + r.query
		}
		writeRow(&b, r.name, request, have, missing(known, slices.Concat(have, everywhere), strings.Clone))
	}
	for _, service := range []struct {
		title  string
		about  *queryService
		client any
	}{{"AWS IAM", iamService, &iam.Client{}}, {"AWS STS", stsService, &sts.Client{}}} {
		fmt.Fprintf(&b, "\n## %s\n\n%d of %d operations.\n\n| operation | request | members | not modelled |\n|---|---|---|---|\n",
			service.title, len(service.about.actions), len(operations(service.client)))
		for _, a := range service.about.actions {
			have := slices.Concat(a.required, a.optional)
			known := members(t, service.client, a.name)
			for _, name := range have {
				assert.Contains(t, known, name, a.name)
			}
			writeRow(&b, a.name, "POST / Action="+a.name, have, missing(known, have, strings.Clone))
		}
	}
	b.WriteString(deviceSide)
	for _, o := range operation.Devices {
		fmt.Fprintf(&b, "| %s | %s |\n", o.Name, o.Does)
	}
	b.WriteString(controlInterface)
	for path, methods := range controlRoutes {
		for method := range methods {
			assert.Contains(t, controlInterface, "| `"+method+" /_fake/"+path)
		}
	}
	return b.String()
}

const deviceSide = `
## Devices

What devices do is no operation of an API. Faults (` + "`fakebackend.Fault`, `POST /_fake/faults`" + `) can be set for it by these names; the ` + "`thing`" + ` of
such a fault is the client id.

| name | when |
|---|---|
`

const controlInterface = `
## The control interface

Beside AWS's protocols, below ` + "`/_fake/`" + `: without a signature, but not for pages of other sites in a browser, nor under a name that a stranger
could point at this machine: IP addresses, localhost and names without a dot, such as a container's, are taken, others if ` + "`Options.ControlHosts`" + `
(` + "`-control-host`" + ` of examples/fakeaws) names them. Errors are JSON with the member ` + "`error`" + `.

| request | what it does |
|---|---|
| ` + "`GET /_fake/ca.pem`" + ` | the certificate of the CA that device certificates verify against |
| ` + "`GET /_fake/root.pem`" + ` | the certificate of the root CA that devices trust: that of a device gateway's server certificate |
| ` + "`GET /_fake/events`" + ` | what happens, as a stream of JSON lines: first what is still kept, up to 4,096 events, then what is to come, until the client goes; with ` + "`?follow=false`" + ` only what is kept. The members are those of ` + "`fakebackend.Event`" + `: ` + "`number`, `time`, `kind`, `reason`, `clientId`, `certificateId`, `caCertificateId`, `thingName`, `source`, `protocol`, `action`, `resource`, `policyName`, `statement`, `sid`, `taskId`, `text`" + ` |
| ` + "`GET /_fake/state`" + ` | the account as one JSON document: ` + "`now`, `account`, `region`, `fake`, `counts`, `tasks`, `things`, `certificates`, `caCertificates`, `policies`, `thingTypes`, `thingGroups`, `billingGroups`, `provisioningTemplates`, `provisioningClaims`, `roles`, `faults`" + `. Names begin in lower case and are AWS's own, such as ` + "`thingName`, `certificateIds`, `policyNames`" + `; lists are never null |
| ` + "`POST /_fake/reset`" + ` | empties the account and removes the faults. The clock, the CA and the counts of calls stay. With a seed the same ids and keys come again, without one none does |
| ` + "`GET /_fake/snapshot`" + ` | everything the account holds, with the CA's secret, as a file to keep |
| ` + "`PUT /_fake/snapshot`" + ` | puts the account back to such a file, with its clock and faults |
| ` + "`POST /_fake/advance?by=24h`" + ` | moves the clock |
| ` + "`GET /_fake/faults`" + ` | the faults, with how often each was met and has struck |
| ` + "`POST /_fake/faults`" + ` | sets a fault or a list of them: ` + "`{\"operation\":\"ListThings\",\"do\":\"throttle\"}`, `{\"line\":3,\"do\":\"end-task\",\"message\":\"…\"}`" + ` |
| ` + "`DELETE /_fake/faults`" + ` | removes all faults, or the one of ` + "`?id=`" + ` |
| ` + "`GET /_fake/calls`" + ` | how often each operation was called, and which the fake does not know |
`

func missing(known, have []string, name func(string) string) []string {
	var out []string
	for _, k := range known {
		if !slices.ContainsFunc(have, func(h string) bool { return strings.EqualFold(h, k) }) {
			out = append(out, name(k))
		}
	}
	return out
}

func writeRow(b *strings.Builder, operation, request string, have, missing []string) {
	list := func(names []string) string {
		if len(names) == 0 {
			return ""
		}
		return "`" + strings.Join(names, "`, `") + "`"
	}
	fmt.Fprintf(b, "| %s | `%s` | %s | %s |\n", operation, request, list(have), list(missing))
}

// The list of internal/operation is what faults can be set for.
func TestTheOperationsThatFaultsKnowAreThoseOfTheRoutes(t *testing.T) {
	namesOf := func(service *queryService) (out []string) {
		for _, a := range service.actions {
			out = append(out, a.name)
		}
		return out
	}
	var s3Names []string
	for _, r := range s3Operations {
		s3Names = append(s3Names, r.name)
	}
	assert.ElementsMatch(t, s3Names, operation.S3)
	assert.ElementsMatch(t, namesOf(iamService), operation.IAM)
	assert.ElementsMatch(t, namesOf(stsService), operation.STS)
}
