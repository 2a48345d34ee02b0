//go:build aws

package awsbackend_test

import (
	"cmp"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/task/tasktest"
	"github.com/stretchr/testify/require"
)

// TestAWSKeepsThePromisesOfTask runs the conformance suite on the real account that the environment's credentials
// belong to. It costs AWS calls and registers and removes devices whose names begin with "tasktest-".
//
//	IOTFLEET_AWS_BUCKET=my-fleet-test go test -tags=aws -run TestAWS -timeout 60m ./awsbackend
//
// IOTFLEET_AWS_BUCKET is required, and made if it does not exist. IOTFLEET_AWS_ROLE_ARN names the service role; by
// default iotfleet-conformance is made. IOTFLEET_AWS_PREFIX and IOTFLEET_AWS_KMS_KEY are as in [awsbackend.Options].
func TestAWSKeepsThePromisesOfTask(t *testing.T) {
	bucket := os.Getenv("IOTFLEET_AWS_BUCKET")
	if bucket == "" {
		t.Skip("IOTFLEET_AWS_BUCKET is not set: this test needs a real account")
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	backend, err := awsbackend.New(cfg, awsbackend.Options{
		Bucket:   bucket,
		Prefix:   cmp.Or(os.Getenv("IOTFLEET_AWS_PREFIX"), "conformance/"),
		KMSKeyID: os.Getenv("IOTFLEET_AWS_KMS_KEY"),
	})
	require.NoError(t, err)
	who, err := backend.Identity(t.Context())
	require.NoError(t, err)
	t.Logf("account %s in %s, partition %s, fake: %v", who.Account, who.Region, who.Partition, who.Fake)
	require.NoError(t, backend.EnsureBucket(t.Context()))
	role := os.Getenv("IOTFLEET_AWS_ROLE_ARN")
	if role == "" {
		role, err = backend.EnsureRole(t.Context(), &task.RoleInput{Name: "iotfleet-conformance"})
		require.NoError(t, err)
	}
	tasktest.Run(t, func(*testing.T) tasktest.Harness { return realAccount{backend, role} })
}

type realAccount struct {
	backend task.Backend
	role    string
}

func (r realAccount) Backend() task.Backend { return r.backend }
func (r realAccount) RoleARN() string       { return r.role }
