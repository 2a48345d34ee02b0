package s3

import "fmt"

// Error is S3's refusal of a request.
type Error struct {
	Code    string // such as NoSuchKey
	Message string // S3's kind of text
	Status  int    // HTTP status
	Bucket  string // what it is about; may be empty
	Key     string
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
	return &Error{"NoSuchBucket", "The specified bucket does not exist", 404, bucket, ""}
}

func noSuchKey(bucket, key string) *Error {
	return &Error{"NoSuchKey", "The specified key does not exist.", 404, bucket, key}
}

func noSuchUpload(bucket, key string) *Error {
	return &Error{"NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", 404, bucket, key}
}

func preconditionFailed(bucket, key string) *Error {
	return &Error{"PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412, bucket, key}
}
