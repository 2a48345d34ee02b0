package fakeaws

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
)

// IAM: roles with their trust, inline and managed policies, and customer managed policies.
//
// Not modelled: users, groups, instance profiles, permission boundaries, service-linked roles, OIDC and SAML providers,
// and what the caller itself may do.
//
// AWS: https://docs.aws.amazon.com/IAM/latest/APIReference/API_Operations.html

var iamService = &queryService{
	name: "iam", namespace: "https://iam.amazonaws.com/doc/2010-05-08/", version: "2010-05-08",
	actions: []*queryAction{
		{"AttachRolePolicy", []string{"RoleName", "PolicyArn"}, nil, func(_ *Handler, r *request, f url.Values) (any, error) {
			return nil, r.wire.IAM.AttachRolePolicy(f.Get("RoleName"), f.Get("PolicyArn"))
		}},
		{"CreatePolicy", []string{"PolicyName", "PolicyDocument"}, []string{"Path", "Description", "Tags"}, createManagedPolicy},
		{"CreatePolicyVersion", []string{"PolicyArn", "PolicyDocument"}, []string{"SetAsDefault"}, createManagedPolicyVersion},
		{"CreateRole", []string{"RoleName", "AssumeRolePolicyDocument"}, []string{"Path", "Description", "MaxSessionDuration", "Tags"}, createRole},
		{"DeletePolicy", []string{"PolicyArn"}, nil, func(_ *Handler, r *request, f url.Values) (any, error) {
			return nil, r.wire.IAM.DeletePolicy(f.Get("PolicyArn"))
		}},
		{"DeleteRole", []string{"RoleName"}, nil, func(_ *Handler, r *request, f url.Values) (any, error) {
			return nil, r.wire.IAM.DeleteRole(f.Get("RoleName"))
		}},
		{"DeleteRolePolicy", []string{"RoleName", "PolicyName"}, nil, func(_ *Handler, r *request, f url.Values) (any, error) {
			return nil, r.wire.IAM.DeleteRolePolicy(f.Get("RoleName"), f.Get("PolicyName"))
		}},
		{"DetachRolePolicy", []string{"RoleName", "PolicyArn"}, nil, func(_ *Handler, r *request, f url.Values) (any, error) {
			return nil, r.wire.IAM.DetachRolePolicy(f.Get("RoleName"), f.Get("PolicyArn"))
		}},
		{"GetPolicy", []string{"PolicyArn"}, nil, getManagedPolicy},
		{"GetPolicyVersion", []string{"PolicyArn", "VersionId"}, nil, getManagedPolicyVersion},
		{"GetRole", []string{"RoleName"}, nil, getRole},
		{"GetRolePolicy", []string{"RoleName", "PolicyName"}, nil, getRolePolicy},
		{"ListAttachedRolePolicies", []string{"RoleName"}, []string{"PathPrefix", "Marker", "MaxItems"}, listAttachedRolePolicies},
		{"ListRolePolicies", []string{"RoleName"}, []string{"Marker", "MaxItems"}, listRolePolicies},
		{"ListRoleTags", []string{"RoleName"}, []string{"Marker", "MaxItems"}, listRoleTags},
		{"ListRoles", nil, []string{"PathPrefix", "Marker", "MaxItems"}, listRoles},
		{"PutRolePolicy", []string{"RoleName", "PolicyName", "PolicyDocument"}, nil, func(_ *Handler, r *request, f url.Values) (any, error) {
			return nil, r.wire.IAM.PutRolePolicy(f.Get("RoleName"), f.Get("PolicyName"), f.Get("PolicyDocument"))
		}},
		{"TagRole", []string{"RoleName", "Tags"}, nil, func(_ *Handler, r *request, f url.Values) (any, error) {
			return nil, r.wire.IAM.TagRole(f.Get("RoleName"), tagsOf(f))
		}},
		{"UntagRole", []string{"RoleName", "TagKeys"}, nil, func(_ *Handler, r *request, f url.Values) (any, error) {
			return nil, r.wire.IAM.UntagRole(f.Get("RoleName"), membersOf(f, "TagKeys"))
		}},
		{"UpdateAssumeRolePolicy", []string{"RoleName", "PolicyDocument"}, nil, func(_ *Handler, r *request, f url.Values) (any, error) {
			return nil, r.wire.IAM.UpdateAssumeRolePolicy(f.Get("RoleName"), f.Get("PolicyDocument"))
		}},
		{"UpdateRole", []string{"RoleName"}, []string{"Description", "MaxSessionDuration"}, updateRole},
	},
}

const iamTime = "2006-01-02T15:04:05Z"

// xmlRole is a role on the wire.
type xmlRole struct {
	Path                     string
	RoleName                 string
	RoleID                   string `xml:"RoleId"`
	Arn                      string
	CreateDate               string
	AssumeRolePolicyDocument string
	Description              string    `xml:",omitempty"`
	MaxSessionDuration       int       `xml:",omitempty"`
	Tags                     *xmlTags  `xml:",omitempty"`
	RoleLastUsed             *struct{} `xml:",omitempty"`
}

type xmlTags struct {
	Member []iam.Tag `xml:"member"`
}

// wireTags leaves the element out when there are no tags.
func wireTags(tags []iam.Tag) *xmlTags {
	if len(tags) == 0 {
		return nil
	}
	return &xmlTags{tags}
}

// wireRole writes a role. Documents are percent-encoded, as IAM returns them.
func wireRole(r *iam.Role) xmlRole {
	return xmlRole{
		Path: r.Path, RoleName: r.Name, RoleID: r.ID, Arn: r.ARN, CreateDate: r.Created.Format(iamTime),
		AssumeRolePolicyDocument: percentEncode(r.Trust), Description: r.Description, MaxSessionDuration: int(r.MaxSession.Seconds()), Tags: wireTags(r.Tags),
	}
}

func percentEncode(document string) string {
	return strings.ReplaceAll(url.QueryEscape(document), "+", "%20")
}

// maxSession reads the optional number of seconds, which was checked.
func maxSession(f url.Values) time.Duration {
	n, _ := strconv.Atoi(f.Get("MaxSessionDuration"))
	return time.Duration(n) * time.Second
}

func createRole(_ *Handler, r *request, f url.Values) (any, error) {
	role, err := r.wire.IAM.CreateRole(iam.NewRole{
		Name: f.Get("RoleName"), Path: f.Get("Path"), Trust: f.Get("AssumeRolePolicyDocument"), Description: f.Get("Description"),
		MaxSession: maxSession(f), Tags: tagsOf(f),
	}, r.wire.Now)
	if err != nil {
		return nil, err
	}
	out := wireRole(role)
	out.MaxSessionDuration = 0 // GetRole and ListRoles show it
	return struct{ Role xmlRole }{out}, nil
}

func getRole(_ *Handler, r *request, f url.Values) (any, error) {
	role, err := r.wire.IAM.GetRole(f.Get("RoleName"))
	if err != nil {
		return nil, err
	}
	out := wireRole(role)
	out.RoleLastUsed = new(struct{}) // AWS fills it hours after a use, and then in no answer but this one
	return struct{ Role xmlRole }{out}, nil
}

func updateRole(_ *Handler, r *request, f url.Values) (any, error) {
	var description *string
	if f.Has("Description") {
		description = new(f.Get("Description"))
	}
	return struct{}{}, r.wire.IAM.UpdateRole(f.Get("RoleName"), description, maxSession(f))
}

func listRoles(_ *Handler, r *request, f url.Values) (any, error) {
	page, next, err := pageQuery(f, r.wire.IAM.Roles(f.Get("PathPrefix")))
	if err != nil {
		return nil, err
	}
	out := struct {
		Roles []xmlRole `xml:"Roles>member"`
		paging
	}{paging: pagingOf(next)}
	for _, role := range page {
		item := wireRole(role)
		item.Tags = nil // ListRoleTags has them
		out.Roles = append(out.Roles, item)
	}
	return out, nil
}

func listRoleTags(_ *Handler, r *request, f url.Values) (any, error) {
	role, err := r.wire.IAM.GetRole(f.Get("RoleName"))
	if err != nil {
		return nil, err
	}
	page, next, err := pageQuery(f, role.Tags)
	if err != nil {
		return nil, err
	}
	return struct {
		Tags []iam.Tag `xml:"Tags>member"`
		paging
	}{page, pagingOf(next)}, nil
}

func getRolePolicy(_ *Handler, r *request, f url.Values) (any, error) {
	document, err := r.wire.IAM.GetRolePolicy(f.Get("RoleName"), f.Get("PolicyName"))
	if err != nil {
		return nil, err
	}
	return struct{ RoleName, PolicyName, PolicyDocument string }{f.Get("RoleName"), f.Get("PolicyName"), percentEncode(document)}, nil
}

func listRolePolicies(_ *Handler, r *request, f url.Values) (any, error) {
	names, err := r.wire.IAM.ListRolePolicies(f.Get("RoleName"))
	if err != nil {
		return nil, err
	}
	page, next, err := pageQuery(f, names)
	if err != nil {
		return nil, err
	}
	return struct {
		PolicyNames []string `xml:"PolicyNames>member"`
		paging
	}{page, pagingOf(next)}, nil
}

func listAttachedRolePolicies(_ *Handler, r *request, f url.Values) (any, error) {
	attached, err := r.wire.IAM.ListAttachedRolePolicies(f.Get("RoleName"), f.Get("PathPrefix"))
	if err != nil {
		return nil, err
	}
	page, next, err := pageQuery(f, attached)
	if err != nil {
		return nil, err
	}
	type member struct{ PolicyName, PolicyArn string }
	out := struct {
		AttachedPolicies []member `xml:"AttachedPolicies>member"`
		paging
	}{paging: pagingOf(next)}
	for _, p := range page {
		out.AttachedPolicies = append(out.AttachedPolicies, member{p.Name, p.ARN})
	}
	return out, nil
}

// xmlPolicy is a managed policy on the wire.
type xmlPolicy struct {
	PolicyName       string
	PolicyID         string `xml:"PolicyId"`
	Arn              string
	Path             string
	DefaultVersionID string `xml:"DefaultVersionId"`
	AttachmentCount  int
	BoundaryUsages   int `xml:"PermissionsBoundaryUsageCount"` // the fake has no boundaries
	IsAttachable     bool
	Description      string `xml:",omitempty"`
	CreateDate       string
	UpdateDate       string
	Tags             *xmlTags `xml:",omitempty"`
}

func wirePolicy(p *iam.Policy, attached int) xmlPolicy {
	return xmlPolicy{
		PolicyName: p.Name, PolicyID: p.ID, Arn: p.ARN, Path: p.Path, DefaultVersionID: p.Default, AttachmentCount: attached, IsAttachable: true,
		Description: p.Description, CreateDate: p.Created.Format(iamTime), UpdateDate: p.Updated.Format(iamTime), Tags: wireTags(p.Tags),
	}
}

func createManagedPolicy(_ *Handler, r *request, f url.Values) (any, error) {
	p, err := r.wire.IAM.CreatePolicy(iam.NewPolicy{
		Name: f.Get("PolicyName"), Path: f.Get("Path"), Document: f.Get("PolicyDocument"), Description: f.Get("Description"), Tags: tagsOf(f),
	}, r.wire.Now)
	if err != nil {
		return nil, err
	}
	return struct{ Policy xmlPolicy }{wirePolicy(p, 0)}, nil
}

func getManagedPolicy(_ *Handler, r *request, f url.Values) (any, error) {
	p, attached, err := r.wire.IAM.GetPolicy(f.Get("PolicyArn"))
	if err != nil {
		return nil, err
	}
	return struct{ Policy xmlPolicy }{wirePolicy(p, attached)}, nil
}

type xmlPolicyVersion struct {
	Document         string `xml:",omitempty"`
	VersionID        string `xml:"VersionId"`
	IsDefaultVersion bool
	CreateDate       string
}

func getManagedPolicyVersion(_ *Handler, r *request, f url.Values) (any, error) {
	v, inForce, err := r.wire.IAM.GetPolicyVersion(f.Get("PolicyArn"), f.Get("VersionId"))
	if err != nil {
		return nil, err
	}
	return struct{ PolicyVersion xmlPolicyVersion }{
		xmlPolicyVersion{percentEncode(v.Document), v.ID, inForce, v.Created.Format(iamTime)},
	}, nil
}

func createManagedPolicyVersion(_ *Handler, r *request, f url.Values) (any, error) {
	v, inForce, err := r.wire.IAM.CreatePolicyVersion(f.Get("PolicyArn"), f.Get("PolicyDocument"), f.Get("SetAsDefault") == "true", r.wire.Now)
	if err != nil {
		return nil, err
	}
	return struct{ PolicyVersion xmlPolicyVersion }{
		xmlPolicyVersion{VersionID: v.ID, IsDefaultVersion: inForce, CreateDate: v.Created.Format(iamTime)},
	}, nil
}
