// Package operation lists the operations of S3, IAM and STS that package fakeaws serves, for package fakebackend, which
// refuses a fault for any other: it could never strike. The operations of AWS IoT are in package fakebackend's own
// table.
package operation

// S3 are the operations of Amazon S3.
var S3 = []string{
	"AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "CreateBucket", "CreateMultipartUpload",
	"DeleteBucket", "DeleteObject", "GetBucketLocation", "GetObject", "GetObjectTagging", "GetPublicAccessBlock",
	"HeadBucket", "HeadObject", "ListBuckets", "ListObjects", "ListObjectsV2", "PutObject", "PutPublicAccessBlock",
	"UploadPart", "UploadPartCopy",
}

// IAM are the operations of AWS IAM.
var IAM = []string{
	"AttachRolePolicy", "CreatePolicy", "CreatePolicyVersion", "CreateRole", "DeletePolicy", "DeleteRole",
	"DeleteRolePolicy", "DetachRolePolicy", "GetPolicy", "GetPolicyVersion", "GetRole", "GetRolePolicy",
	"ListAttachedRolePolicies", "ListRolePolicies", "ListRoleTags", "ListRoles", "PutRolePolicy", "TagRole",
	"UntagRole", "UpdateAssumeRolePolicy", "UpdateRole",
}

// STS are the operations of AWS STS.
var STS = []string{
	"GetCallerIdentity",
}
