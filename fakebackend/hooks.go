package fakebackend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"
)

// ProvisioningHook decides whether a device may be provisioned by claim, as the Lambda function of a pre-provisioning
// hook does. An error, an answer that does not allow it, and more than 5 seconds refuse the device. It may be called by
// many goroutines at once, and may use the fake. A panic in it ends the program, like in any goroutine.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/pre-provisioning-hook.html
type ProvisioningHook func(ctx context.Context, in *HookRequest) (*HookAnswer, error)

// HookRequest is what a pre-provisioning hook is asked. As JSON it is the payload that AWS sends to a Lambda function.
type HookRequest struct {
	ClaimCertificateID string            `json:"claimCertificateId"` // that the device has connected with
	CertificateID      string            `json:"certificateId"`      // that the device is to get
	CertificatePEM     string            `json:"certificatePem"`
	TemplateARN        string            `json:"templateArn"`
	ClientID           string            `json:"clientId"`   // of the MQTT connection
	Parameters         map[string]string `json:"parameters"` // as the device has sent them; never nil
}

// HookAnswer is the answer of a pre-provisioning hook. As JSON it is what AWS takes from a Lambda function.
type HookAnswer struct {
	AllowProvisioning  bool              `json:"allowProvisioning"`
	ParameterOverrides map[string]string `json:"parameterOverrides,omitempty"` // take the place of the device's parameters
}

const (
	// hookTime is how long a hook may take.
	hookTime = 5 * time.Second
	// hookAnswerSize is the most that a hook over HTTP may answer, in bytes: what a Lambda function can return.
	hookAnswerSize = 6 << 20
)

// hookRequest is what the hook of a template is asked about a device.
func (b *account) hookRequest(p *provisioning) *HookRequest {
	request := &HookRequest{
		ClaimCertificateID: p.who.id.String(), CertificateID: p.owned.certificate.id.String(), CertificatePEM: p.owned.certificate.pem(),
		TemplateARN: b.templateARN(p.found), ClientID: p.who.hello.ClientID, Parameters: map[string]string{},
	}
	maps.Copy(request.Parameters, p.parameters)
	return request
}

// askHook calls the hook with an ARN and returns its overrides. The error is a refusal, or the context's cause.
func (b *account) askHook(ctx context.Context, arn string, request *HookRequest) (map[string]string, error) {
	denied := func(format string, args ...any) error {
		err := refuse(codeAccessDenied, "The pre-provisioning hook has not allowed the device.")
		err.Err = fmt.Errorf("the hook %s "+format, append([]any{arn}, args...)...)
		return err
	}
	hook := b.opts.Hooks[arn]
	if hook == nil {
		return nil, denied("is not among Options.Hooks")
	}
	limited, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	type answer struct {
		*HookAnswer
		err error
	}
	answered := make(chan answer, 1) // a hook that comes too late finds nobody, and ends
	go func() {
		out, err := hook(limited, request)
		answered <- answer{out, err}
	}()
	select {
	case <-limited.Done():
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, denied("did not answer within %v", hookTime)
	case a := <-answered:
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case a.err != nil:
			return nil, denied("failed: %v", a.err)
		case a.HookAnswer == nil || !a.AllowProvisioning:
			return nil, denied("does not allow the device")
		}
		return a.ParameterOverrides, nil
	}
}

// HTTPHook returns a hook that asks a program at an address: it sends AWS's payload with POST, and takes AWS's answer of
// at most 6 MiB with status 200. Any other status is a failure, that of a redirection too, and so is the header X-Amz-Function-Error, which Lambda
// sets when a function has failed: a Lambda emulator's address for invocations works too. A nil client is
// http.DefaultClient.
func HTTPHook(client *http.Client, url string) ProvisioningHook {
	if client == nil {
		client = http.DefaultClient
	}
	asks := *client
	asks.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return func(ctx context.Context, in *HookRequest) (*HookAnswer, error) {
		payload, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(payload))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := asks.Do(request)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, hookAnswerSize+1))
		switch {
		case err != nil:
			return nil, err
		case response.StatusCode != http.StatusOK:
			return nil, fmt.Errorf("it answered with status %d", response.StatusCode)
		case response.Header.Get("X-Amz-Function-Error") != "":
			return nil, fmt.Errorf("its function ended with the error %s", response.Header.Get("X-Amz-Function-Error"))
		case len(body) > hookAnswerSize:
			return nil, errors.New("its answer is too long")
		}
		out := new(HookAnswer)
		if err := json.Unmarshal(body, out); err != nil {
			return nil, fmt.Errorf("its answer is not what a hook answers: %w", err)
		}
		return out, nil
	}
}
