package awsbackend

import (
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const endpointOp = "DescribeEndpoint"

// marked puts the fake's header on an answer.
func marked(answer func(*request) *http.Response) func(*request) *http.Response {
	return func(r *request) *http.Response {
		resp := answer(r)
		resp.Header.Set("X-Iotfleet-Fake", "1")
		return resp
	}
}

var dataEndpoint = reply(200, `{"endpointAddress":"a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com"}`)

func TestIdentityIsThatOfSTSAndIsAskedOnce(t *testing.T) {
	b, w := onWire(t, answers{"GetCallerIdentity": knownCaller, endpointOp: dataEndpoint})
	for range 2 {
		who, err := b.Identity(t.Context())
		require.NoError(t, err)
		assert.Equal(t, &task.Identity{Partition: "aws", Account: "123456789012", Region: inRegion}, who)
		who.Account = "changed by the caller"
	}
	assert.Equal(t, []string{"GetCallerIdentity", endpointOp}, w.ops())
}

func TestTheFakeIsKnownByTheMarkOnItsAnswers(t *testing.T) {
	for name, endpoint := range map[string]func(*request) *http.Response{
		"an answer": dataEndpoint, "a refusal": exception(403, "AccessDeniedException", "no"),
	} {
		b, _ := onWire(t, answers{"GetCallerIdentity": marked(knownCaller), endpointOp: marked(endpoint)})
		who, err := b.Identity(t.Context())
		require.NoError(t, err, name)
		assert.True(t, who.Fake, name)
	}
}

func TestAFakeOfOnlyOneServiceIsAnError(t *testing.T) {
	for name, a := range map[string]answers{
		"IoT": {"GetCallerIdentity": knownCaller, endpointOp: marked(dataEndpoint)},
		"STS": {"GetCallerIdentity": marked(knownCaller), endpointOp: dataEndpoint},
	} {
		b, _ := onWire(t, a)
		_, err := b.Identity(t.Context())
		require.ErrorContains(t, err, "do not belong together", name)
	}
}

func TestNothingIsChangedWhereOnlySomeServicesAreTheFake(t *testing.T) {
	a := (&iamState{}).answers()
	a["HeadBucket"] = noBucket
	a["GetCallerIdentity"], a[endpointOp] = marked(knownCaller), marked(dataEndpoint)
	b, w := onWire(t, a)
	_, err := b.Identity(t.Context())
	require.NoError(t, err, "S3 and IAM have not answered yet")

	require.ErrorContains(t, b.EnsureBucket(t.Context()), "the fake answers for AWS IoT, STS, AWS for S3")
	_, err = b.Upload(t.Context(), uploadOf("k", "x"))
	require.ErrorContains(t, err, "do not belong together")
	_, err = b.EnsureRole(t.Context(), roleInput)
	require.ErrorContains(t, err, "do not belong together")
	assert.Equal(t, []string{"GetCallerIdentity", endpointOp, "HeadBucket", "HeadBucket", "GetRole"}, w.ops(), "these read only")
}

func TestIdentityWithoutAnAnswerOfIoTIsAnErrorNotAGuess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, _ := onWire(t, answers{"GetCallerIdentity": knownCaller, endpointOp: func(*request) *http.Response { return nil }})
		_, err := b.Identity(t.Context())
		require.ErrorIs(t, err, task.ErrUnavailable)
	})
}

func TestThePartitionIsThatOfTheCallersARN(t *testing.T) {
	for arn, partition := range map[string]string{
		"arn:aws-cn:iam::123456789012:user/li":     "aws-cn",
		"arn:aws-us-gov:iam::123456789012:user/jo": "aws-us-gov",
	} {
		b, _ := onWire(t, answers{endpointOp: dataEndpoint, "GetCallerIdentity": query("GetCallerIdentity", "<Arn>"+arn+"</Arn><Account>123456789012</Account>")})
		who, err := b.Identity(t.Context())
		require.NoError(t, err)
		assert.Equal(t, partition, who.Partition)
	}
}

func TestAnAnswerWithoutAnAccountIsRefused(t *testing.T) {
	b, _ := onWire(t, answers{"GetCallerIdentity": query("GetCallerIdentity", "")})
	_, err := b.Identity(t.Context())
	require.ErrorIs(t, err, task.ErrNotService)
}

func TestTheDataEndpointIsTheOneOfAmazonTrustServices(t *testing.T) {
	b, w := onWire(t, answers{endpointOp: inTurn(dataEndpoint, reply(200, `{}`))})
	host, err := b.DataEndpoint(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com", host)
	assert.Equal(t, "iot:Data-ATS", w.last(endpointOp).URL.Query().Get("endpointType"))
	_, err = b.DataEndpoint(t.Context())
	require.ErrorIs(t, err, task.ErrNotService)
}

func TestTheHostsOfAWSAreKnown(t *testing.T) {
	for host, want := range map[string]bool{
		"iot.us-east-1.amazonaws.com": true, "b.s3.cn-north-1.amazonaws.com.cn:443": true, "s3.us-east-1.api.aws": true,
		"amazonaws.com": false, "notamazonaws.com": false, "amazonaws.com.example.org": false, "127.0.0.1:4566": false, "[::1]:80": false, "": false,
	} {
		assert.Equal(t, want, isAWSHost(host), host)
	}
}

// A device's endpoint answers none of the operations, with a page that explains nothing.
func TestTheEndpointOfDevicesIsNotTakenForAWSs(t *testing.T) {
	for endpoint, refused := range map[string]bool{
		"https://a1b2c3-ats.iot.eu-central-1.amazonaws.com":                  true,
		"https://A1B2C3-ATS.iot.eu-central-1.amazonaws.com:8443":             true,
		"https://a1b2c3.ats.iot.cn-north-1.amazonaws.com.cn":                 true,
		"https://data-ats.iot.us-west-2.amazonaws.com/":                      true,
		"https://c1d2.credentials.iot.eu-central-1.amazonaws.com":            true,
		"https://iot.eu-central-1.amazonaws.com":                             false,
		"https://iot-fips.us-gov-west-1.amazonaws.com":                       false,
		"https://vpce-0a1b-2c3d.iot.eu-central-1.vpce.amazonaws.com":         false,
		"http://127.0.0.1:4566":                                              false,
		"https://a1b2c3-ats.iot.eu-central-1.amazonaws.com.proxy.factory.io": false,
	} {
		cfg := testConfig(nil)
		cfg.BaseEndpoint = aws.String(endpoint)
		_, err := New(cfg, Options{})
		if !refused {
			require.NoError(t, err, endpoint)
			continue
		}
		require.ErrorIs(t, err, task.ErrInvalidRequest, endpoint)
		assert.ErrorContains(t, err, "where devices connect; things are registered at iot.", endpoint)
	}
}
