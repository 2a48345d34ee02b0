package s3

import "fmt"

// Error is S3's refusal of a request.
type Error struct {
	Code    string // such as NoSuchKey
	Message string // S3's kind of text
	Status  int    // HTTP status
	Bucket  string // what it is about; may be empty
	Key     string
	More    []Member // what the answer has beside code and message, in S3's order
}

// Member is one more member of an error's answer, such as Condition.
type Member struct{ Name, Value string }

// With returns the error with one more member.
func (e *Error) With(name, value string) *Error {
	e.More = append(e.More, Member{name, value})
	return e
}

// Error returns code, message and the object they are about.
func (e *Error) Error() string {
	switch {
	case e.Key != "":
		return fmt.Sprintf("%s: %s (s3://%s/%s)", e.Code, e.Message, e.Bucket, e.Key)
	case e.Bucket != "":
		return fmt.Sprintf("%s: %s (s3://%s)", e.Code, e.Message, e.Bucket)
	}
	return e.Code + ": " + e.Message
}

func noSuchBucket(bucket string) *Error {
	return (&Error{Code: "NoSuchBucket", Message: "The specified bucket does not exist", Status: 404, Bucket: bucket}).With("BucketName", bucket)
}

func noSuchKey(bucket, key string) *Error {
	return (&Error{Code: "NoSuchKey", Message: "The specified key does not exist.", Status: 404, Bucket: bucket, Key: key}).With("Key", key)
}

func noSuchUpload(bucket, key, id string) *Error {
	return (&Error{Code: "NoSuchUpload", Message: "The specified upload does not exist. The upload ID may be invalid, or the upload may have been" +
		" aborted or completed.", Status: 404, Bucket: bucket, Key: key}).With("UploadId", id)
}

// PreconditionFailed is the refusal of a request whose condition, named by its header, does not hold.
func PreconditionFailed(condition, bucket, key string) *Error {
	return (&Error{Code: "PreconditionFailed", Message: "At least one of the pre-conditions you specified did not hold", Status: 412,
		Bucket: bucket, Key: key}).With("Condition", condition)
}

// InvalidArgument is the refusal of an argument, with its name and value.
func InvalidArgument(message, name, value string) *Error {
	return (&Error{Code: "InvalidArgument", Message: message, Status: 400}).With("ArgumentName", name).With("ArgumentValue", value)
}

// notImplemented refuses a header that S3 does not take in a request.
func notImplemented(header, why string) *Error {
	return (&Error{Code: "NotImplemented", Message: "A header you provided implies functionality that is not implemented", Status: 501}).
		With("Header", header).With("additionalMessage", why)
}
