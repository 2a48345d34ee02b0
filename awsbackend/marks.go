package awsbackend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// fakeHeader is on every answer of this project's fake.
const fakeHeader = "X-Iotfleet-Fake"

// mark is who answered a service's requests so far.
type mark = int32

const (
	unknown mark = iota // no HTTP answer was seen yet
	genuine             // the last answer had no mark of the fake
	fake
)

// marks holds for each service whether the fake answers it. Endpoints are set for each service apart, so one may be the
// fake while another is AWS.
type marks struct {
	iot, s3, iam, sts atomic.Int32
}

// together returns an error if the fake answers for some services and AWS for others.
func (m *marks) together() error {
	var fakes, genuines []string
	for _, s := range []struct {
		name string
		mark mark
	}{{"AWS IoT", m.iot.Load()}, {"S3", m.s3.Load()}, {"IAM", m.iam.Load()}, {"STS", m.sts.Load()}} {
		switch s.mark {
		case fake:
			fakes = append(fakes, s.name)
		case genuine:
			genuines = append(genuines, s.name)
		}
	}
	if len(fakes) == 0 || len(genuines) == 0 {
		return nil
	}
	return fmt.Errorf("the endpoints do not belong together: the fake answers for %s, AWS for %s: set one endpoint for all services",
		strings.Join(fakes, ", "), strings.Join(genuines, ", "))
}

// watch adds a step to every operation of a client that looks for the fake's header on the answers, and refuses those
// that are a proxy's page. The SDK does not read the body of some answers, and would take such a page for a success; of a
// page with another status it would think that asking again helps.
func watch(steps []func(*middleware.Stack) error, m *atomic.Int32) []func(*middleware.Stack) error {
	look := func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
		middleware.DeserializeOutput, middleware.Metadata, error,
	) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if answer, ok := out.RawResponse.(*smithyhttp.Response); ok && answer != nil && answer.Response != nil && answer.StatusCode != 0 {
			switch {
			case isPage(answer.Header):
				if err == nil && isImpostorsPage(answer.StatusCode, answer.Header) {
					host := ""
					if r, ok := in.Request.(*smithyhttp.Request); ok {
						host = r.URL.Host
					}
					err = &smithyhttp.ResponseError{Response: answer, Err: &impostorError{host, errPage}}
				}
			case answer.Header.Get(fakeHeader) != "":
				m.Store(fake)
			default:
				m.Store(genuine)
			}
		}
		return out, metadata, err
	}
	return append(slices.Clip(steps), func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("iotfleet.mark", look), middleware.After)
	})
}
