package awsbackend

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// amazonRoots are Amazon Root CA 1 (RSA 2048, which signs for the endpoints of today), 2 (RSA 4096), 3 (P-256) and 4
// (P-384), and Starfield Services Root Certificate Authority - G2, which has cross-signed them. The file is put together of
// those of Debian's ca-certificates; a test holds it against the published fingerprints.
//
//go:embed roots.pem
var amazonRoots []byte

// RootCAs implements [task.RootLister]. For an endpoint of AWS they are the roots of Amazon Trust Services, Amazon Root CA 1
// to 4 and Starfield Services Root CA - G2, all in some 6 KB; a device with room for one takes the first. That holds
// in the partitions aws, aws-us-gov and aws-cn. In the others, which have certificate authorities of their own, and for a
// host that is not AWS's, such as another emulator's, it returns none. On the fake it returns the fake's root.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/server-authentication.html
func (b *Backend) RootCAs(ctx context.Context, endpoint string) ([]byte, error) {
	who, err := b.Identity(ctx)
	if err != nil {
		return nil, err
	}
	if who.Fake {
		return b.fakeRoots(ctx)
	}
	of := partition.Of(b.region)
	switch of.Name {
	case "aws", "aws-us-gov", "aws-cn":
	default:
		return nil, nil
	}
	host := strings.ToLower(endpoint)
	if !strings.HasSuffix(host, "."+of.DNSSuffix) && !strings.HasSuffix(host, "."+of.DualStackDNSSuffix) {
		return nil, nil
	}
	return bytes.Clone(amazonRoots), nil
}

// fakeRoots asks the fake for its root, which is no operation of AWS. A fake that refuses that (it knows no such address,
// or does not serve it under this host name), or that is not reached by an endpoint of the configuration, has none.
func (b *Backend) fakeRoots(ctx context.Context) ([]byte, error) {
	const what = "GET /_fake/root.pem"
	options := b.iot.Options()
	base := strings.TrimSuffix(aws.ToString(options.BaseEndpoint), "/")
	if base == "" {
		return nil, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/_fake/root.pem", http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	body, status, isFake, err := read(options.HTTPClient, req)
	switch {
	case err != nil && ctx.Err() != nil:
		err = wait.ContextError(ctx)
	case err != nil && !errors.Is(err, task.ErrNotService):
		err = fmt.Errorf("%w: %w", task.ErrUnavailable, err)
	case err != nil:
	case isFake && status >= 400 && status < 500:
		return nil, nil
	case status != http.StatusOK:
		err = fmt.Errorf("%w: the answer has status %d", task.ErrUnavailable, status)
	default:
		if err = rule.CheckRoots(body); err != nil {
			err = fmt.Errorf("%w: %w", task.ErrUnavailable, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return body, nil
}

func read(client iot.HTTPClient, req *http.Request) (body []byte, status int, isFake bool, err error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, false, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return body, resp.StatusCode, resp.Header.Get(fakeHeader) != "", err
}
