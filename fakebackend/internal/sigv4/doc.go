// Package sigv4 computes and checks AWS Signature Version 4: the signature of a request's header, of a presigned link,
// and of the chunks of a streamed upload.
//
//	link := sigv4.Presign("GET", u, "us-east-1", "s3", credentials, now, time.Hour)
//	q, err := sigv4.ParseQuery(u.Query())
//	err = q.Verify(r, secretKey, now)
//
// It is the receiving side of what AWS's SDKs send, and makes the links of the fake's reports. Signatures of version 4A
// (over several regions) are not handled.
//
// AWS: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
package sigv4
