package awsbackend

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/seed1ff6f450/iotfleet/task"
)

// errNotAccepted marks refusals that are about the credentials and not about what was asked for.
var errNotAccepted = errors.New("AWS does not accept the credentials")

// refusedCredentials returns what is wrong with the credentials that AWS refused, in words that say what to mend; "" if the
// refusal is about anything else.
func refusedCredentials(e *task.Error) string {
	switch e.Code {
	case "InvalidClientTokenId", "InvalidAccessKeyId", "UnrecognizedClientException", "NotSignedUp":
		return "their access key id is unknown, deleted or deactivated, or belongs to another partition"
	case "SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "IncompleteSignatureException":
		if strings.Contains(e.Message, "scoped to a valid region") {
			return "the request was signed for another region than that of the endpoint it was sent to"
		}
		if !strings.Contains(e.Message, "Signature expired") && !strings.Contains(e.Message, "Signature not yet current") {
			return "their secret access key is not the one of the access key id"
		}
	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return "their session is over: log in again"
	case "InvalidToken", "InvalidSecurity":
		return "their session token is not valid, or is missing"
	default:
		return ""
	}
	switch skew := clockSkew(e.Err); {
	case skew > 0:
		return fmt.Sprintf("this machine's clock is %v ahead of AWS's: set it", skew)
	case skew < 0:
		return fmt.Sprintf("this machine's clock is %v behind AWS's: set it", -skew)
	}
	return "this machine's clock and AWS's differ by too much: set it"
}

// clockSkew returns by how much this machine's clock is ahead of the clock that dated the answer behind err, in whole
// minutes. It is 0 for less than five minutes, which AWS accepts, and for an answer without a date.
func clockSkew(err error) time.Duration {
	answer, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || answer.Response == nil {
		return 0
	}
	date, err := http.ParseTime(answer.Response.Header.Get("Date"))
	if err != nil {
		return 0
	}
	skew := time.Since(date).Round(time.Minute)
	if skew.Abs() < 5*time.Minute {
		return 0
	}
	return skew
}
