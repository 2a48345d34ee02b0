package awsbackend

import (
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	noBucket = head(404)
	denied   = xmlError(403, "AccessDenied", "Access Denied")
)

func TestEnsureBucketMakesAPrivateBucketInTheRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := onWire(t, answers{"HeadBucket": inTurn(noBucket, noBucket, noBucket, bucketHere), // it takes a moment to be seen
			"CreateBucket": reply(200, ""), "PutPublicAccessBlock": reply(200, "")})
		require.NoError(t, b.EnsureBucket(t.Context()))
		assert.Equal(t, []string{"HeadBucket", "CreateBucket", "PutPublicAccessBlock", "HeadBucket", "HeadBucket", "HeadBucket"}, w.ops())
		assert.Contains(t, w.last("CreateBucket").body, "<LocationConstraint>eu-central-1</LocationConstraint>")
		for _, all := range []string{"BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"} {
			assert.Contains(t, w.last("PutPublicAccessBlock").body, "<"+all+">true</"+all+">")
		}
	})
}

func TestABucketTooNewToBeBlockedIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := onWire(t, answers{"HeadBucket": inTurn(noBucket, bucketHere), "CreateBucket": reply(200, ""),
			"PutPublicAccessBlock": inTurn(xmlError(404, "NoSuchBucket", "not yet"), xmlError(409, "OperationAborted", "busy"), reply(200, ""))})
		require.NoError(t, b.EnsureBucket(t.Context()), "whoever calls again finds a bucket, and would leave it open")
		assert.Equal(t, 3, w.count("PutPublicAccessBlock"))
	})
}

func TestEnsureBucketSendsNoLocationInTheOldestRegion(t *testing.T) {
	w := &wire{t: t, answers: answers{"HeadBucket": inTurn(noBucket, reply(200, "", "X-Amz-Bucket-Region", "us-east-1")),
		"CreateBucket": reply(200, ""), "PutPublicAccessBlock": reply(200, "")}}
	cfg := testConfig(w)
	cfg.Region = "us-east-1"
	b, err := New(cfg, Options{Bucket: "fleet-bucket"})
	require.NoError(t, err)
	require.NoError(t, b.EnsureBucket(t.Context()))
	assert.NotContains(t, w.last("CreateBucket").body, "LocationConstraint")
}

func TestEnsureBucketLeavesAnExistingBucketAlone(t *testing.T) {
	b, w := onWire(t, answers{"HeadBucket": bucketHere})
	require.NoError(t, b.EnsureBucket(t.Context()))
	assert.Equal(t, []string{"HeadBucket"}, w.ops())
}

func TestEnsureBucketRefusesBucketsItCannotUse(t *testing.T) {
	for name, c := range map[string]struct {
		answers answers
		kind    error
		text    string
	}{
		"another region": {answers{"HeadBucket": reply(301, "", "X-Amz-Bucket-Region", "us-west-2")}, task.ErrWrongRegion, "us-west-2"},
		"not ours": {answers{"HeadBucket": head(403, "X-Amz-Bucket-Region", inRegion), "GetBucketLocation": denied, "GetCallerIdentity": knownCaller},
			task.ErrAccessDenied, "another account"},
		"name taken": {answers{"HeadBucket": noBucket, "CreateBucket": xmlError(409, "BucketAlreadyExists", "taken")},
			task.ErrConflict, "choose another"},
		"may not block public access": {answers{"HeadBucket": noBucket, "CreateBucket": reply(200, ""), "GetCallerIdentity": knownCaller,
			"PutPublicAccessBlock": xmlError(403, "AccessDenied", "no")}, task.ErrAccessDenied, "s3:PutBucketPublicAccessBlock"},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := onWire(t, c.answers)
			err := b.EnsureBucket(t.Context())
			require.ErrorIs(t, err, c.kind)
			assert.ErrorContains(t, err, c.text)
			assert.ErrorContains(t, err, "fleet-bucket")
		})
	}
}

func TestNoBucketIsMadeInAnotherAccountThanExpected(t *testing.T) {
	for owner, made := range map[string]int{"999999999999": 0, "123456789012": 1} {
		b, w := onWireWith(t, Options{Bucket: "fleet-bucket", ExpectedBucketOwner: owner}, answers{"HeadBucket": inTurn(noBucket, bucketHere),
			"GetCallerIdentity": knownCaller, endpointOp: dataEndpoint, "CreateBucket": reply(200, ""), "PutPublicAccessBlock": reply(200, "")})
		err := b.EnsureBucket(t.Context())
		assert.Equal(t, made, w.count("CreateBucket"), owner)
		if made > 0 {
			require.NoError(t, err)
			assert.Equal(t, owner, w.last("PutPublicAccessBlock").Header.Get("X-Amz-Expected-Bucket-Owner"))
			continue
		}
		require.ErrorIs(t, err, task.ErrInvalidRequest)
		assert.ErrorContains(t, err, "123456789012")
	}
}

func TestCredentialsThatCannotBeHadSayNothingAboutTheBucket(t *testing.T) {
	w := &wire{t: t}
	cfg := testConfig(w)
	cfg.Credentials = fromRole(t, queryError(403, "AccessDenied", "no"))
	b, err := New(cfg, Options{Bucket: "fleet-bucket"})
	require.NoError(t, err)
	err = b.EnsureBucket(t.Context())
	require.ErrorIs(t, err, task.ErrAccessDenied)
	assert.ErrorContains(t, err, "HeadBucket: not sent: the credentials cannot be had: AssumeRole")
	assert.NotContains(t, err.Error(), "another account")
	assert.Empty(t, w.ops())
}

func TestTwoWhoMakeTheBucketAtOnceBothSucceed(t *testing.T) {
	b, w := onWire(t, answers{"HeadBucket": inTurn(noBucket, bucketHere), "PutPublicAccessBlock": reply(200, ""),
		"CreateBucket": xmlError(409, "BucketAlreadyOwnedByYou", "yours")})
	require.NoError(t, b.EnsureBucket(t.Context()))
	assert.Equal(t, []string{"HeadBucket", "CreateBucket", "PutPublicAccessBlock", "HeadBucket"}, w.ops(), "whoever made it, it is closed to the public")
}

func TestABucketThatNeverShowsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := onWire(t, answers{"HeadBucket": noBucket, "CreateBucket": reply(200, ""), "PutPublicAccessBlock": reply(200, "")})
		require.ErrorIs(t, b.EnsureBucket(t.Context()), task.ErrUnavailable)
	})
}

func TestNewRefusesOptionsThatBreakARule(t *testing.T) {
	good := aws.Config{Region: inRegion}
	for name, c := range map[string]struct {
		cfg    aws.Config
		opts   Options
		member string
	}{
		"no region":       {aws.Config{}, Options{}, "aws.Config.Region"},
		"bucket":          {good, Options{Bucket: "no such/bucket"}, "Options.Bucket"},
		"prefix":          {good, Options{Prefix: "a b"}, "Options.Prefix"},
		"prefix wildcard": {good, Options{Prefix: "fleet*"}, "Options.Prefix"},
		"owner":           {good, Options{ExpectedBucketOwner: "me"}, "Options.ExpectedBucketOwner"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c.cfg, c.opts)
			require.ErrorIs(t, err, task.ErrInvalidRequest)
			assert.ErrorContains(t, err, c.member)
		})
	}
	_, err := New(good, Options{})
	require.NoError(t, err, "the zero value works")
}
