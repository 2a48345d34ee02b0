package awsbackend

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// location remembers that the bucket was found in the right region.
type location struct {
	turn chan struct{} // holds one token while somebody looks
	ok   bool
}

// checkRegion returns task.ErrWrongRegion if AWS IoT could not read the bucket. It asks once; only failures are asked
// again. A bucket whose region the caller may not see passes: the upload itself finds out.
func (b *Backend) checkRegion(ctx context.Context) error {
	select {
	case b.location.turn <- struct{}{}:
		defer func() { <-b.location.turn }()
	case <-ctx.Done():
		return wait.ContextError(ctx)
	}
	if b.location.ok {
		return nil
	}
	region, err := b.bucketRegion(ctx)
	if mixed := b.marks.together(); mixed != nil {
		return mixed
	}
	if isDenied(err) {
		b.log.WarnContext(ctx, "could not check the bucket's region", "bucket", b.bucket, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	if region != b.region {
		return b.wrongRegion(region)
	}
	b.location.ok = true
	return nil
}

func (b *Backend) wrongRegion(region string) error {
	return fmt.Errorf("%w: bucket %s is in %s, AWS IoT is used in %s and reads data files only there: use a bucket in %[4]s",
		task.ErrWrongRegion, b.bucket, region, b.region)
}

// explainRegion adds both regions to a refusal that came because the bucket is elsewhere.
func (b *Backend) explainRegion(err error) error {
	e, ok := errors.AsType[*task.Error](err)
	if !ok || !errors.Is(e.Kind, task.ErrWrongRegion) {
		return err
	}
	if region := regionHeader(e.Err); region != "" && region != b.region {
		return fmt.Errorf("%w: %w", b.wrongRegion(region), err)
	}
	return err
}

// headBucket asks S3 for the bucket. The region is returned wherever the answer has it, as most refusals do.
//
// A refusal has no body that could hold a reason: credentials that are not valid, a clock that is off and a missing
// permission look the same, and the SDK can't correct the clock. So GetBucketLocation is asked, whose answer has one.
func (b *Backend) headBucket(ctx context.Context) (region string, err error) {
	region, err = b.headOnce(ctx)
	if region != "" && region != b.region || !isDenied(err) && !errors.Is(err, task.ErrInvalidRequest) {
		return region, err
	}
	location, reason := b.bucketLocation(ctx)
	switch {
	case reason == nil: // the SDK knows AWS's time now
		again, err := b.headOnce(ctx)
		return cmp.Or(again, region, location), err
	case isDenied(reason) && codeOf(reason) == "AccessDenied":
		return region, err
	}
	return region, reason
}

func (b *Backend) headOnce(ctx context.Context) (region string, err error) {
	out, err := b.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(b.bucket), ExpectedBucketOwner: b.owner})
	if err != nil {
		return regionHeader(err), b.fault(ctx, err)
	}
	return aws.ToString(out.BucketRegion), nil
}

// bucketRegion finds the bucket's region. S3 has it in a header of HeadBucket, even for those it refuses; if not,
// GetBucketLocation is asked.
func (b *Backend) bucketRegion(ctx context.Context) (string, error) {
	region, headErr := b.headBucket(ctx)
	switch {
	case region != "":
		return region, nil
	case errors.Is(headErr, task.ErrNotFound):
		return "", fmt.Errorf("there is no bucket %s: make it with EnsureBucket, or name another: %w", b.bucket, headErr)
	case headErr != nil && !errors.Is(headErr, task.ErrWrongRegion):
		return "", headErr
	}
	region, err := b.bucketLocation(ctx)
	if err != nil {
		return "", cmp.Or(headErr, err)
	}
	return region, nil
}

// bucketLocation asks for the region with GetBucketLocation.
func (b *Backend) bucketLocation(ctx context.Context) (string, error) {
	out, err := call(ctx, b, b.s3.GetBucketLocation,
		&s3.GetBucketLocationInput{Bucket: aws.String(b.bucket), ExpectedBucketOwner: b.owner})
	if err != nil {
		return "", err
	}
	switch out.LocationConstraint {
	case "": // how S3 names the oldest region
		return "us-east-1", nil
	case types.BucketLocationConstraintEu:
		return "eu-west-1", nil
	}
	return string(out.LocationConstraint), nil
}

// regionHeader reads the bucket's region from the answer behind an error.
func regionHeader(err error) string {
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.Response != nil {
		return answer.Response.Header.Get("X-Amz-Bucket-Region")
	}
	return ""
}

// EnsureBucket implements [task.BucketEnsurer]: it makes the bucket in the region of the aws.Config, with all public
// access blocked; S3 itself encrypts new objects and leaves ACLs off. It returns when the bucket can be seen.
//
// A bucket that exists is only checked: [task.ErrWrongRegion] when it is elsewhere, [task.ErrAccessDenied] when it
// belongs to someone else or may not be seen. Its settings are left alone, since others may rely on them; Preflight
// reports whether it blocks public access. The error is [task.ErrConflict] when another account owns the name. No
// bucket is made with credentials of another account than [Options].ExpectedBucketOwner.
//
// Needs s3:ListBucket, s3:CreateBucket and s3:PutBucketPublicAccessBlock.
func (b *Backend) EnsureBucket(ctx context.Context) error {
	if b.bucket == "" {
		return fmt.Errorf("ensure bucket: %w",
			&task.InputError{Member: "Options.Bucket", Problem: "is empty: say which bucket takes data files"})
	}
	region, err := b.visibleBucket(ctx)
	if mixed := b.marks.together(); mixed != nil {
		return fmt.Errorf("ensure bucket %s: %w", b.bucket, mixed)
	}
	switch {
	case err == nil && region == b.region:
		return nil
	case err == nil:
		return fmt.Errorf("ensure bucket: %w", b.wrongRegion(region))
	case !errors.Is(err, task.ErrNotFound):
		return fmt.Errorf("ensure bucket %s: %w", b.bucket, err)
	}
	if err := b.mayOwnBucket(ctx); err != nil {
		return fmt.Errorf("ensure bucket %s: %w", b.bucket, err)
	}
	if err := b.createBucket(ctx); err != nil {
		return fmt.Errorf("ensure bucket %s: %w", b.bucket, err)
	}
	return nil
}

// mayOwnBucket returns an error if a bucket made now would belong to another account than the one expected.
// CreateBucket takes no such condition, and a name that is taken stays taken.
func (b *Backend) mayOwnBucket(ctx context.Context) error {
	if b.owner == nil {
		return nil
	}
	who, err := b.Identity(ctx)
	if err != nil {
		return err
	}
	if who.Account != *b.owner {
		return &task.InputError{Member: "Options.ExpectedBucketOwner", Problem: fmt.Sprintf(
			"is %s, but the credentials are of account %s, which the new bucket would belong to", *b.owner, who.Account)}
	}
	return nil
}

// visibleBucket returns the region of a bucket that the caller may use, task.ErrNotFound if there is none.
func (b *Backend) visibleBucket(ctx context.Context) (string, error) {
	region, err := b.headBucket(ctx)
	switch {
	case err != nil && region != "" && region != b.region:
		return "", fmt.Errorf("%w: %w", b.wrongRegion(region), err)
	case isDenied(err):
		return "", fmt.Errorf("the bucket exists, but belongs to another account or may not be listed: %w", err)
	case err != nil:
		return "", err
	case region == "":
		return b.bucketRegion(ctx)
	}
	return region, nil
}

func (b *Backend) createBucket(ctx context.Context) error {
	req := &s3.CreateBucketInput{Bucket: aws.String(b.bucket)}
	if b.region != "us-east-1" { // which S3 takes as the absence of a location
		req.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(b.region)}
	}
	if _, err := call(ctx, b, b.s3.CreateBucket, req); err != nil {
		switch codeOf(err) {
		case "BucketAlreadyOwnedByYou": // made at the same time by someone of the same account
		case "BucketAlreadyExists":
			return fmt.Errorf("another account owns a bucket of this name, choose another: %w", err)
		default:
			return err
		}
	}
	if err := b.blockPublicAccess(ctx); err != nil {
		return fmt.Errorf("the bucket was made, but public access could not be blocked: %w", err)
	}
	const made = "the new bucket"
	return b.await(ctx, made, func() (again bool, err error) {
		_, err = b.visibleBucket(ctx)
		if errors.Is(err, task.ErrNotFound) {
			return true, notVisible(made, err)
		}
		return false, err
	})
}

// blockPublicAccess blocks all public access to a bucket that was just made. S3 can need a moment to know it
// everywhere, and whoever calls EnsureBucket again would find the bucket and leave it as it is.
func (b *Backend) blockPublicAccess(ctx context.Context) error {
	const made = "the new bucket"
	return b.await(ctx, made, func() (again bool, err error) {
		_, err = call(ctx, b, b.s3.PutPublicAccessBlock, &s3.PutPublicAccessBlockInput{
			Bucket:              aws.String(b.bucket),
			ExpectedBucketOwner: b.owner,
			PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{
				BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: aws.Bool(true),
				IgnorePublicAcls: aws.Bool(true), RestrictPublicBuckets: aws.Bool(true),
			},
		})
		if errors.Is(err, task.ErrNotFound) || codeOf(err) == "OperationAborted" {
			return true, notVisible(made, err)
		}
		return false, err
	})
}
