package fakebackend

import (
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// Provisioning templates: CreateProvisioningTemplate, DescribeProvisioningTemplate, ListProvisioningTemplates,
// UpdateProvisioningTemplate, DeleteProvisioningTemplate, CreateProvisioningTemplateVersion,
// DescribeProvisioningTemplateVersion, ListProvisioningTemplateVersions, DeleteProvisioningTemplateVersion.
//
// Models: both types, each with the template language that AWS documents for it; up to five versions, one of them the
// default; the pre-provisioning hook. Role and hook are looked at when a device is provisioned, not before. Not
// modelled: the caller's own permission to pass the role.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateProvisioningTemplate.html

var provisioningTemplateOperations = []*operation{
	operationOf("CreateProvisioningTemplate", "POST /provisioning-templates", (*account).createProvisioningTemplate),
	operationOf("DescribeProvisioningTemplate", "GET /provisioning-templates/{templateName}", (*account).describeProvisioningTemplate),
	listOf("ListProvisioningTemplates", "GET /provisioning-templates", "templates", (*account).listProvisioningTemplates),
	operationOf("UpdateProvisioningTemplate", "PATCH /provisioning-templates/{templateName}", (*account).updateProvisioningTemplate),
	operationOf("DeleteProvisioningTemplate", "DELETE /provisioning-templates/{templateName}", (*account).deleteProvisioningTemplate),
	operationOf("CreateProvisioningTemplateVersion", "POST /provisioning-templates/{templateName}/versions", (*account).createProvisioningTemplateVersion),
	operationOf("DescribeProvisioningTemplateVersion", "GET /provisioning-templates/{templateName}/versions/{versionId}", (*account).describeProvisioningTemplateVersion),
	listOf("ListProvisioningTemplateVersions", "GET /provisioning-templates/{templateName}/versions", "versions", (*account).listProvisioningTemplateVersions),
	operationOf("DeleteProvisioningTemplateVersion", "DELETE /provisioning-templates/{templateName}/versions/{versionId}", (*account).deleteProvisioningTemplateVersion),
}

const (
	// provisioningTemplates is how many templates an account can have.
	provisioningTemplates = 256
	// provisioningTemplateVersions is how many versions a template can have.
	provisioningTemplateVersions = 5
)

// The types of a provisioning template.
const (
	typeFleet = "FLEET_PROVISIONING"
	typeJITP  = "JITP"
)

// templateKinds are the languages in which templates of the types are written.
var templateKinds = map[string]template.Kind{typeFleet: template.Fleet, typeJITP: template.JITP}

// hookPayload is the only version of the payload that a pre-provisioning hook gets.
const hookPayload = "2020-04-01"

// provisioningHook is the pre-provisioning hook of a template.
type provisioningHook struct {
	PayloadVersion string `json:"payloadVersion,omitempty" is:"PayloadVersion"`
	TargetARN      string `json:"targetArn" is:"TargetArn" required:"true"`
}

type createProvisioningTemplateInput struct {
	TemplateName        string            `json:"templateName" is:"TemplateName" required:"true"`
	Description         string            `json:"description" is:"TemplateDescription"`
	TemplateBody        string            `json:"templateBody" is:"TemplateBody" required:"true"`
	Enabled             bool              `json:"enabled"`
	ProvisioningRoleARN string            `json:"provisioningRoleArn" is:"RoleArn" required:"true"`
	PreProvisioningHook *provisioningHook `json:"preProvisioningHook"`
	Tags                []tag             `json:"tags"`
	Type                string            `json:"type" is:"TemplateType"`
}

type createProvisioningTemplateOutput struct {
	TemplateARN      string `json:"templateArn"`
	TemplateName     string `json:"templateName"`
	DefaultVersionID int32  `json:"defaultVersionId"`
}

// createProvisioningTemplate makes a template with one version.
func (b *account) createProvisioningTemplate(now time.Time, in *createProvisioningTemplateInput) (*createProvisioningTemplateOutput, *task.Error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if old, ok := b.st.templates.get(in.TemplateName); ok {
		err := refuse(codeAlreadyExists, "The provisioning template %s already exists", old.name)
		return nil, withResource(err, old.name, b.templateARN(old))
	}
	t := &provisioningTemplate{
		name: in.TemplateName, description: in.Description, kind: in.Type, enabled: in.Enabled, role: in.ProvisioningRoleARN,
		created: stamp(now), modified: stamp(now),
	}
	if t.kind == "" {
		t.kind = typeFleet
	}
	if err := t.setHook(in.PreProvisioningHook); err != nil {
		return nil, err
	}
	if err := b.addVersion(t, in.TemplateBody, now); err != nil {
		return nil, err
	}
	t.standard = t.next
	if b.st.templates.len() >= provisioningTemplates {
		return nil, refuse(codeLimitExceeded, "The maximum number of provisioning templates is %d", provisioningTemplates)
	}
	b.st.templates.add(t.name, t)
	b.setTags(b.templateARN(t), in.Tags)
	return &createProvisioningTemplateOutput{b.templateARN(t), t.name, t.standard}, nil
}

// provisioningTemplateInput names a template: the request of DescribeProvisioningTemplate, DeleteProvisioningTemplate
// and CreateProvisioningClaim.
type provisioningTemplateInput struct {
	TemplateName string `path:"templateName" is:"TemplateName"`
}

type describeProvisioningTemplateOutput struct {
	TemplateARN         string            `json:"templateArn"`
	TemplateName        string            `json:"templateName"`
	Description         string            `json:"description,omitempty"`
	CreationDate        time.Time         `json:"creationDate"`
	LastModifiedDate    time.Time         `json:"lastModifiedDate"`
	DefaultVersionID    int32             `json:"defaultVersionId"`
	TemplateBody        string            `json:"templateBody"`
	Enabled             bool              `json:"enabled"`
	ProvisioningRoleARN string            `json:"provisioningRoleArn"`
	PreProvisioningHook *provisioningHook `json:"preProvisioningHook,omitempty"`
	Type                string            `json:"type"`
}

// describeProvisioningTemplate reads a template with the body of its default version.
func (b *account) describeProvisioningTemplate(_ time.Time, in *provisioningTemplateInput) (*describeProvisioningTemplateOutput, *task.Error) {
	t, err := b.findTemplate(in.TemplateName)
	if err != nil {
		return nil, err
	}
	return &describeProvisioningTemplateOutput{
		TemplateARN: b.templateARN(t), TemplateName: t.name, Description: t.description, CreationDate: t.created, LastModifiedDate: t.modified,
		DefaultVersionID: t.standard, TemplateBody: t.version(t.standard).body, Enabled: t.enabled, ProvisioningRoleARN: t.role,
		PreProvisioningHook: t.hook, Type: t.kind,
	}, nil
}

type listProvisioningTemplatesInput struct {
	byToken
}

// provisioningTemplateSummary is a template in a list.
type provisioningTemplateSummary struct {
	TemplateARN      string    `json:"templateArn"`
	TemplateName     string    `json:"templateName"`
	Description      string    `json:"description,omitempty"`
	CreationDate     time.Time `json:"creationDate"`
	LastModifiedDate time.Time `json:"lastModifiedDate"`
	Enabled          bool      `json:"enabled"`
	Type             string    `json:"type"`
}

// listProvisioningTemplates lists templates, oldest first.
func (b *account) listProvisioningTemplates(_ *listProvisioningTemplatesInput, p *page) ([]provisioningTemplateSummary, *task.Error) {
	return rowsOf(p, b.st.templates.after(p.from), func(t *provisioningTemplate) provisioningTemplateSummary {
		return provisioningTemplateSummary{b.templateARN(t), t.name, t.description, t.created, t.modified, t.enabled, t.kind}
	}), nil
}

type updateProvisioningTemplateInput struct {
	TemplateName              string            `path:"templateName" is:"TemplateName"`
	Description               *string           `json:"description" is:"TemplateDescription"`
	Enabled                   *bool             `json:"enabled"`
	DefaultVersionID          *int32            `json:"defaultVersionId"`
	ProvisioningRoleARN       string            `json:"provisioningRoleArn" is:"RoleArn"`
	PreProvisioningHook       *provisioningHook `json:"preProvisioningHook"`
	RemovePreProvisioningHook bool              `json:"removePreProvisioningHook"`
}

// updateProvisioningTemplate changes what a template has beside its versions. What is not given stays.
func (b *account) updateProvisioningTemplate(now time.Time, in *updateProvisioningTemplateInput) (*nothing, *task.Error) {
	t, err := b.findTemplate(in.TemplateName)
	if err != nil {
		return nil, err
	}
	if in.PreProvisioningHook != nil && in.RemovePreProvisioningHook {
		return nil, refuse(codeInvalidRequest, "A pre-provisioning hook cannot be set and removed by one request")
	}
	if in.DefaultVersionID != nil && t.version(*in.DefaultVersionID) == nil {
		return nil, noTemplateVersion(t, *in.DefaultVersionID)
	}
	if err := t.setHook(in.PreProvisioningHook); err != nil {
		return nil, err
	}
	if in.RemovePreProvisioningHook {
		t.hook = nil
	}
	if in.Description != nil {
		t.description = *in.Description
	}
	if in.Enabled != nil {
		t.enabled = *in.Enabled
	}
	if in.DefaultVersionID != nil {
		t.setDefault(*in.DefaultVersionID)
	}
	if in.ProvisioningRoleARN != "" {
		t.role = in.ProvisioningRoleARN
	}
	t.modified = stamp(now)
	return nil, nil
}

// deleteProvisioningTemplate removes a template that has one version.
func (b *account) deleteProvisioningTemplate(_ time.Time, in *provisioningTemplateInput) (*nothing, *task.Error) {
	t, err := b.findTemplate(in.TemplateName)
	if err != nil {
		return nil, err
	}
	if len(t.versions) > 1 {
		return nil, refuse(codeDeleteConflict, "The provisioning template %s cannot be deleted as versions other than the default version exist", t.name)
	}
	b.st.templates.remove(t.name)
	delete(b.st.tags, b.templateARN(t))
	return nil, nil
}

type createProvisioningTemplateVersionInput struct {
	TemplateName string `path:"templateName" is:"TemplateName"`
	TemplateBody string `json:"templateBody" is:"TemplateBody" required:"true"`
	SetAsDefault bool   `query:"setAsDefault"`
}

type createProvisioningTemplateVersionOutput struct {
	TemplateARN      string `json:"templateArn"`
	TemplateName     string `json:"templateName"`
	VersionID        int32  `json:"versionId"`
	IsDefaultVersion bool   `json:"isDefaultVersion"`
}

// createProvisioningTemplateVersion adds a version to a template.
func (b *account) createProvisioningTemplateVersion(now time.Time, in *createProvisioningTemplateVersionInput) (*createProvisioningTemplateVersionOutput, *task.Error) {
	t, err := b.findTemplate(in.TemplateName)
	if err != nil {
		return nil, err
	}
	if err := b.addVersion(t, in.TemplateBody, now); err != nil {
		return nil, err
	}
	if in.SetAsDefault {
		t.setDefault(t.next)
	}
	t.modified = stamp(now)
	return &createProvisioningTemplateVersionOutput{b.templateARN(t), t.name, t.next, in.SetAsDefault}, nil
}

// provisioningTemplateVersionInput names a version of a template: the request of DescribeProvisioningTemplateVersion
// and DeleteProvisioningTemplateVersion.
type provisioningTemplateVersionInput struct {
	TemplateName string `path:"templateName" is:"TemplateName"`
	VersionID    int32  `path:"versionId"`
}

type describeProvisioningTemplateVersionOutput struct {
	VersionID        int32     `json:"versionId"`
	CreationDate     time.Time `json:"creationDate"`
	TemplateBody     string    `json:"templateBody"`
	IsDefaultVersion bool      `json:"isDefaultVersion"`
}

// describeProvisioningTemplateVersion reads one version of a template.
func (b *account) describeProvisioningTemplateVersion(_ time.Time, in *provisioningTemplateVersionInput) (*describeProvisioningTemplateVersionOutput, *task.Error) {
	t, v, err := b.findTemplateVersion(in)
	if err != nil {
		return nil, err
	}
	return &describeProvisioningTemplateVersionOutput{v.id, v.created, v.body, v.id == t.standard}, nil
}

type listProvisioningTemplateVersionsInput struct {
	TemplateName string `path:"templateName" is:"TemplateName"`
	byToken
}

// provisioningTemplateVersionSummary is a version in a list.
type provisioningTemplateVersionSummary struct {
	VersionID        int32     `json:"versionId"`
	CreationDate     time.Time `json:"creationDate"`
	IsDefaultVersion bool      `json:"isDefaultVersion"`
}

// listProvisioningTemplateVersions lists the versions of a template, oldest first.
func (b *account) listProvisioningTemplateVersions(in *listProvisioningTemplateVersionsInput, p *page) ([]provisioningTemplateVersionSummary, *task.Error) {
	t, err := b.findTemplate(in.TemplateName)
	if err != nil {
		return nil, err
	}
	return itemsOf(p, t.versions, func(v templateVersion) provisioningTemplateVersionSummary {
		return provisioningTemplateVersionSummary{v.id, v.created, v.id == t.standard}
	}), nil
}

// deleteProvisioningTemplateVersion removes a version that is not the default one.
func (b *account) deleteProvisioningTemplateVersion(now time.Time, in *provisioningTemplateVersionInput) (*nothing, *task.Error) {
	t, v, err := b.findTemplateVersion(in)
	if err != nil {
		return nil, err
	}
	if v.id == t.standard {
		return nil, refuse(codeDeleteConflict, "The default version of a provisioning template cannot be deleted")
	}
	t.versions = slices.DeleteFunc(slices.Clone(t.versions), func(o templateVersion) bool { return o.id == in.VersionID })
	t.modified = stamp(now)
	return nil, nil
}

func (b *account) findTemplate(name string) (*provisioningTemplate, *task.Error) {
	t, ok := b.st.templates.get(name)
	if !ok {
		return nil, refuse(codeNotFound, "The provisioning template %s does not exist", restjson.Cut(name))
	}
	return t, nil
}

func (b *account) findTemplateVersion(in *provisioningTemplateVersionInput) (*provisioningTemplate, *templateVersion, *task.Error) {
	t, err := b.findTemplate(in.TemplateName)
	if err != nil {
		return nil, nil, err
	}
	v := t.version(in.VersionID)
	if v == nil {
		return nil, nil, noTemplateVersion(t, in.VersionID)
	}
	return t, v, nil
}

func noTemplateVersion(t *provisioningTemplate, id int32) *task.Error {
	return refuse(codeNotFound, "The provisioning template %s has no version %d", t.name, id)
}

// addVersion adds a version, which is not the default one yet. It refuses a body that is no template of the type.
func (b *account) addVersion(t *provisioningTemplate, body string, now time.Time) *task.Error {
	if _, err := b.compileAs(templateKinds[t.kind], body); err != nil {
		return refuse(codeInvalidRequest, "%s", err)
	}
	if len(t.versions) >= provisioningTemplateVersions {
		return refuse(codeVersionsLimit, "The provisioning template %s already has the maximum number of versions (%d)", t.name, provisioningTemplateVersions)
	}
	t.next++
	t.versions = append(t.versions, templateVersion{t.next, body, stamp(now)})
	return nil
}

// setHook sets the pre-provisioning hook; nil leaves it as it is.
func (t *provisioningTemplate) setHook(hook *provisioningHook) *task.Error {
	switch {
	case hook == nil:
		return nil
	case t.kind != typeFleet:
		return refuse(codeInvalidRequest, "A pre-provisioning hook is supported for templates of type %s only", typeFleet)
	case hook.PayloadVersion != "" && hook.PayloadVersion != hookPayload:
		return refuse(codeInvalidRequest, "The payload version of a pre-provisioning hook is %s, not %s", hookPayload, restjson.Cut(hook.PayloadVersion))
	case !strings.HasPrefix(hook.TargetARN, "arn:") || !strings.Contains(hook.TargetARN, ":lambda:"):
		return refuse(codeInvalidRequest, "The target of a pre-provisioning hook is the ARN of a Lambda function, not %s", restjson.Cut(hook.TargetARN))
	}
	t.hook = &provisioningHook{hookPayload, hook.TargetARN}
	return nil
}

func (t *provisioningTemplate) version(id int32) *templateVersion {
	if i := slices.IndexFunc(t.versions, func(v templateVersion) bool { return v.id == id }); i >= 0 {
		return &t.versions[i]
	}
	return nil
}

func (t *provisioningTemplate) setDefault(id int32) {
	t.standard, t.program = id, nil
}

// programOf compiles the default version of a template, once.
func (b *account) programOf(t *provisioningTemplate) (*template.Program, error) {
	if t.program == nil {
		program, err := b.compileAs(templateKinds[t.kind], t.version(t.standard).body)
		if err != nil {
			return nil, err
		}
		t.program = program
	}
	return t.program, nil
}
