// Package iam is the part of AWS Identity and Access Management that the fake needs: roles with a trust policy, inline
// policies and managed policies. Package internal/policy reads and evaluates their documents.
//
//	store := iam.NewStore("aws", "123456789012")
//	role, err := store.CreateRole(iam.NewRole{Name: "registration", Trust: trust}, now)
//	err = store.AttachRolePolicy("registration", "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration")
//	session, err := store.Assume(role.ARN, "iot.amazonaws.com", nil)
//	if !session.Allows("s3:GetObject", "arn:aws:s3:::bucket/devices.json") {
//		// the task cannot read its data file
//	}
//
// A [Store] refuses what IAM refuses with an [*Error] of IAM's code, status and kind of text. Not modelled: users,
// groups, permission boundaries, service control policies, session policies, and whether a principal named in a
// trust policy exists.
//
// AWS: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
package iam
