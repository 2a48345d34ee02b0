// Package operation lists the AWS operations that the fake has: those with a method in package fakebackend, and those that
// package fakeaws serves over the wire. Package fakebackend refuses a fault for any other, which could never strike.
package operation

import (
	"slices"

	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// IoT are the operations of AWS IoT.
var IoT = []string{
	"AddThingToBillingGroup", "AddThingToThingGroup", "AttachPolicy", "AttachPrincipalPolicy", "AttachThingPrincipal",
	"CreateBillingGroup", "CreateCertificateFromCsr", "CreateKeysAndCertificate", "CreatePolicy", "CreatePolicyVersion",
	"CreateThing", "CreateThingGroup", "CreateThingType", "DeleteBillingGroup", "DeleteCACertificate",
	"DeleteCertificate", "DeletePolicy", "DeletePolicyVersion", "DeleteRegistrationCode", "DeleteThing",
	"DeleteThingGroup", "DeleteThingType", "DeprecateThingType", "DescribeBillingGroup", "DescribeCACertificate",
	"DescribeCertificate", "DescribeEndpoint", "DescribeThing", "DescribeThingGroup", "DescribeThingRegistrationTask",
	"DescribeThingType", "DetachPolicy", "DetachPrincipalPolicy", "DetachThingPrincipal", "GetPolicy",
	"GetPolicyVersion", "GetRegistrationCode", "ListAttachedPolicies", "ListBillingGroups", "ListCACertificates",
	"ListCertificates", "ListCertificatesByCA", "ListPolicies", "ListPolicyPrincipals", "ListPolicyVersions",
	"ListPrincipalPolicies", "ListPrincipalThings", "ListPrincipalThingsV2", "ListTagsForResource",
	"ListTargetsForPolicy", "ListThingGroups", "ListThingGroupsForThing", "ListThingPrincipals",
	"ListThingPrincipalsV2", "ListThingRegistrationTaskReports", "ListThingRegistrationTasks", "ListThingTypes",
	"ListThings", "ListThingsInBillingGroup", "ListThingsInThingGroup", "RegisterCACertificate", "RegisterCertificate",
	"RegisterCertificateWithoutCA", "RegisterThing", "RemoveThingFromBillingGroup", "RemoveThingFromThingGroup",
	"SetDefaultPolicyVersion", "StartThingRegistrationTask", "StopThingRegistrationTask", "TagResource",
	"UntagResource", "UpdateBillingGroup", "UpdateCACertificate", "UpdateCertificate", "UpdateThing",
	"UpdateThingGroup", "UpdateThingGroupsForThing", "UpdateThingType",
}

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

// Known reports whether the fake has an operation of this name, as AWS spells it.
func Known(name string) bool {
	return slices.ContainsFunc([][]string{IoT, S3, IAM, STS}, func(list []string) bool { return slices.Contains(list, name) })
}

// Nearest returns the three known names that are most like one that is not known, the nearest first.
func Nearest(name string) []string {
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(IoT, S3, IAM, STS))))
	far := func(known string) int { return spelling.Distance(spelling.Fold(name), spelling.Fold(known)) }
	slices.SortStableFunc(all, func(a, b string) int { return far(a) - far(b) })
	return all[:3]
}
