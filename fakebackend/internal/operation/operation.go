// Package operation lists the operations of S3, IAM and STS that package fakeaws serves, and what devices do, for package
// fakebackend, which refuses a fault for anything else: it could never strike. The operations of AWS IoT are in package
// fakebackend's own table.
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

// Devices are the steps in the life of a connection that faults can be set for. AWS has no names for them. The thing of
// such a fault is the client id.
var Devices = []struct{ Name, Does string }{
	{Connect, "a device connects, or publishes a message over HTTPS: before, its certificate is not looked at; after, all of it is done and the connection is cut"},
	{JustInTimeRegistration, "a connection registers its certificate as PENDING_ACTIVATION, or reports that it still is"},
	{JustInTimeProvisioning, "a connection registers its certificate and runs the template of its CA. Faults at a step of it (`step`) strike here, too"},
	{Publish, "a device publishes a message: before, nobody gets it; after, it is published, and the connection is cut instead of the PUBACK"},
	{Subscribe, "a device subscribes: before, nothing happens; after, the subscriptions are made, and the connection is cut instead of the SUBACK"},
	{ClaimKeys, "a device asks for a key and a certificate by claim"},
	{ClaimCSR, "a device asks for a certificate by claim with a signing request"},
	{ClaimProvision, "a device has a provisioning template run for its new certificate, by claim; the hook is asked after faults have struck. Faults at a step of the template (`step`) strike here, too"},
}

// The names in [Devices].
const (
	Connect                = "Connect"
	JustInTimeRegistration = "JustInTimeRegistration"
	JustInTimeProvisioning = "JustInTimeProvisioning"
	Publish                = "Publish"
	Subscribe              = "Subscribe"
	ClaimKeys              = "ClaimCreateKeysAndCertificate"
	ClaimCSR               = "ClaimCreateCertificateFromCsr"
	ClaimProvision         = "ClaimRegisterThing"
)
