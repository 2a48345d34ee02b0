package template

import (
	"slices"

	"github.com/seed1ff6f450/iotfleet/finding"
)

// The names of the rules. They are part of the API: programs filter by them.
const (
	// The document.
	ruleWrapped      = "wrapped"
	ruleBodyLength   = "body-length"
	ruleDuplicateKey = "duplicate-key"
	ruleUnknown      = "unknown-member"
	ruleUnknownProp  = "unknown-property"
	ruleNull         = "null-member"
	ruleNoResources  = "no-resources"
	ruleSection      = "section-undocumented"
	ruleValueShape   = "value-shape"
	ruleDeviceConfig = "device-configuration"

	// Parameters and references.
	ruleParameterUndeclared = "parameter-undeclared"
	ruleParameterUnused     = "parameter-unused"
	ruleParameterUnfilled   = "parameter-unfilled"
	ruleParameterType       = "parameter-type"
	ruleParameterMember     = "parameter-member"
	ruleParameterDefault    = "parameter-default"
	ruleParameterName       = "parameter-name"
	ruleRefResource         = "ref-resource"
	ruleRefPseudo           = "ref-pseudo"
	ruleReferenceCycle      = "reference-cycle"

	// Functions and mappings.
	ruleFunctionShape        = "function-shape"
	ruleFunctionResult       = "function-result"
	ruleFunctionUndocumented = "function-undocumented"
	ruleFunctionInMappings   = "function-in-mappings"
	ruleFunctionSiblings     = "function-siblings"
	ruleMappingMissing       = "mapping-missing"
	ruleMappingUnused        = "mapping-unused"
	ruleSubVariable          = "sub-variable"

	// Things.
	ruleNoThing          = "no-thing"
	ruleThings           = "several-things"
	ruleThingNameMissing = "thing-name-missing"
	ruleConstantName     = "constant-thing-name"
	ruleAttributeShape   = "attribute-shape"
	ruleAttributeCount   = "attribute-count"
	ruleGroupCount       = "group-count"
	ruleGroupRepeated    = "group-repeated"

	// Certificates.
	ruleCertificates       = "several-certificates"
	ruleCertificateForm    = "certificate-form"
	ruleCertificateKind    = "certificate-kind"
	ruleCertificateCA      = "certificate-ca"
	ruleCertificateStatus  = "certificate-status"
	ruleStatusCase         = "status-case"
	ruleStatusInactive     = "status-inactive"
	ruleConstantCredential = "constant-credential"
	ruleThingPrincipal     = "thing-principal-type"

	// Policies.
	rulePolicySource       = "policy-source"
	rulePolicyCount        = "policy-count"
	rulePolicyCertificate  = "policy-without-certificate"
	ruleNoPolicy           = "no-policy"
	rulePolicyJSON         = "policy-document-json"
	rulePolicyShape        = "policy-document-shape"
	rulePolicySize         = "policy-document-size"
	rulePolicyObject       = "policy-document-object"
	rulePolicyNoConnect    = "policy-no-connect"
	rulePolicyEverything   = "policy-allows-everything"
	rulePolicyAction       = "policy-action"
	rulePolicyVariable     = "policy-variable"
	rulePolicyResource     = "policy-resource"
	rulePolicyTopic        = "policy-topic-wildcard"
	rulePolicyPlaceholder  = "policy-placeholder"
	rulePolicyElsewhere    = "policy-elsewhere"
	ruleOverrideValue      = "override-value"
	ruleOverrideUndefined  = "override-undocumented"
	ruleOverrideMisplaced  = "override-misplaced"
	ruleOverrideWithoutUse = "override-without-use"

	// Values, of constants and of rows.
	ruleThingName     = "thing-name"
	ruleThingType     = "thing-type-name"
	ruleThingGroup    = "thing-group-name"
	ruleBillingGroup  = "billing-group-name"
	ruleAttributeName = "attribute-name"
	ruleAttribute     = "attribute-value"
	rulePolicyName    = "policy-name"
	ruleCertificateID = "certificate-id"
	ruleCSR           = "csr"
	ruleCertPEM       = "certificate-pem"
	rulePrivateKey    = "private-key"

	// Rows only.
	ruleMissingParameter = "missing-parameter"
	ruleUnknownParameter = "unknown-parameter"
)

// RuleDoc describes one rule.
type RuleDoc struct {
	Rule        finding.Rule
	Severity    finding.Severity // what a breach usually weighs
	Explanation string           // what the rule demands and why
}

// Rules describes every rule of [Template.Check] and [Program.CheckRow], in the order of the template's parts. Some
// weigh less in one kind of template than Severity has it.
func Rules() []RuleDoc { return slices.Clone(rules) }

var rules = []RuleDoc{
	{ruleWrapped, finding.Note, "The text held the template inside another JSON document. Send what Body returns, not the file."},
	{ruleBodyLength, finding.Error, "AWS takes 10,240 characters of template."},
	{ruleDuplicateKey, finding.Warning, "An object has the same member twice. The last one counts, which is seldom what was meant."},
	{ruleUnknown, finding.Warning, "AWS does not document this member and seems to ignore it."},
	{ruleUnknownProp, finding.Warning, "AWS does not document this property for the resource's type: it has no effect, or fails the device."},
	{ruleNull, finding.Warning, "A member is null. Leave it out: what AWS makes of null is not documented."},
	{ruleNoResources, finding.Error, "A template without resources creates nothing."},
	{ruleSection, finding.Warning, "Mappings and DeviceConfiguration are documented for fleet templates only."},
	{ruleValueShape, finding.Error, "A list, an object or nothing stands where a string is wanted, or a string where a list is wanted."},
	{ruleDeviceConfig, finding.Error, "DeviceConfiguration takes plain values by name, without nesting."},

	{ruleParameterUndeclared, finding.Warning, "A Ref names a parameter that Parameters does not declare. In a JITP template nothing fills it then, unless it is a pseudo-parameter."},
	{ruleParameterUnused, finding.Warning, "A declared parameter is used nowhere; often a copied line refers to the wrong one. A JITP template's certificates must have it all the same."},
	{ruleParameterUnfilled, finding.Error, "In just-in-time provisioning AWS fills the pseudo-parameters of the certificate and no others: any other needs a Default."},
	{ruleParameterType, finding.Warning, "AWS documents the parameter type String only."},
	{ruleParameterMember, finding.Warning, "A parameter has a Type and a Default. AllowedValues and the like are CloudFormation's: AWS IoT checks nothing by them."},
	{ruleParameterDefault, finding.Error, "A Default is a constant string. A number or boolean is only a warning."},
	{ruleParameterName, finding.Error, "A parameter's name has 1 to 2,048 characters."},
	{ruleRefResource, finding.Error, "A Ref names a resource. What that would give is not documented; it names parameters."},
	{ruleRefPseudo, finding.Error, "AWS does not fill this pseudo-parameter in this kind of template. A warning where a row or a device may give it."},
	{ruleReferenceCycle, finding.Error, "References go round in a circle."},

	{ruleFunctionShape, finding.Error, "The arguments of a function do not have the form it wants."},
	{ruleFunctionResult, finding.Error, "A function has no result, such as Fn::Select beyond the end of its list."},
	{ruleFunctionUndocumented, finding.Warning, "AWS documents intrinsic functions other than Ref for fleet templates only."},
	{ruleFunctionInMappings, finding.Error, "Mappings can hold neither parameters nor functions."},
	{ruleFunctionSiblings, finding.Error, "An object has a function and other members beside it. A function stands alone in its object."},
	{ruleMappingMissing, finding.Error, "Fn::FindInMap names a table that Mappings does not have."},
	{ruleMappingUnused, finding.Warning, "No Fn::FindInMap uses this table."},
	{ruleSubVariable, finding.Warning, "Fn::Sub replaces every ${…}: a policy variable such as ${iot:ClientId} has to be built with Fn::Join instead."},

	{ruleNoThing, finding.Warning, "The template registers no thing. A note in fleet and JITP templates."},
	{ruleThings, finding.Warning, "AWS documents one thing for a template."},
	{ruleThingNameMissing, finding.Error, "A thing must have a ThingName."},
	{ruleConstantName, finding.Warning, "The thing's name is the same for every device: all would become one thing."},
	{ruleAttributeShape, finding.Error, "Attributes are strings by name, flat, without the nesting of the CreateThing API."},
	{ruleAttributeCount, finding.Error, "A thing has at most 3 attributes without a type, 50 with one."},
	{ruleGroupCount, finding.Error, "A thing is in at most 10 groups."},
	{ruleGroupRepeated, finding.Warning, "ThingGroups names the same group twice."},

	{ruleCertificates, finding.Error, "A template has at most one certificate."},
	{ruleCertificateForm, finding.Error, "A certificate comes from exactly one of CertificateSigningRequest, CertificatePem and CertificateId."},
	{ruleCertificateKind, finding.Error, "Fleet and JITP templates must use CertificateId."},
	{ruleCertificateCA, finding.Warning, "CACertificatePem has an effect together with CertificatePem only."},
	{ruleCertificateStatus, finding.Error, "A certificate's Status is ACTIVE or INACTIVE."},
	{ruleStatusCase, finding.Note, "AWS documents the status in upper case; its own examples write Active too."},
	{ruleStatusInactive, finding.Note, "The device cannot connect until its certificate is activated."},
	{ruleConstantCredential, finding.Warning, "The CSR or certificate is the same for every device: all would share one key."},
	{ruleThingPrincipal, finding.Error, "ThingPrincipalType is EXCLUSIVE_THING or NON_EXCLUSIVE_THING. AWS shows it in a fleet template; in the other kinds it is a warning."},

	{rulePolicySource, finding.Error, "A policy has PolicyName or PolicyDocument, not both and not neither. An empty one counts as absent."},
	{rulePolicyCount, finding.Error, "At most 10 policies can be attached to a certificate."},
	{rulePolicyCertificate, finding.Warning, "Policies are attached to the certificate, and the template has none."},
	{ruleNoPolicy, finding.Warning, "A certificate without a policy allows nothing: the device cannot connect. A note when the thing has groups, which may carry policies."},
	{rulePolicyJSON, finding.Error, "A policy document is JSON text."},
	{rulePolicyShape, finding.Error, "A policy document has statements with Effect, Action and Resource. " +
		"Another Version than 2012-10-17, or none, an unknown member or one that stands twice is only a warning."},
	{rulePolicySize, finding.Error, "A policy document has at most 2,048 characters, white space not counted."},
	{rulePolicyObject, finding.Warning, "In bulk and JITP templates AWS documents the policy document as a string of JSON, not as an object."},
	{rulePolicyNoConnect, finding.Warning, "No policy of the template allows iot:Connect for a client, or one denies it to every client: the device cannot connect. " +
		"A note when the thing has groups, whose policies may allow it."},
	{rulePolicyEverything, finding.Warning, "A policy allows every action on everything: one stolen device can act for the whole fleet."},
	{rulePolicyAction, finding.Warning, "A policy names an action that AWS does not document for devices. A note where no known name is near."},
	{rulePolicyVariable, finding.Warning, "A policy uses a variable or a condition key that AWS does not document: what it stands in matches nothing."},
	{rulePolicyResource, finding.Warning, "A resource has a form or a type that the statement's actions do not act on, such as iot:Subscribe on topic/ in " +
		"place of topicfilter/. A note where other resources go with the actions."},
	{rulePolicyTopic, finding.Warning, "MQTT's + and # stand for themselves in a topic of a policy, and no topic has them. * is any characters."},
	{rulePolicyPlaceholder, finding.Warning, "An ARN has no partition, region or account, or what looks like a placeholder for one."},
	{rulePolicyElsewhere, finding.Warning, "Every resource of a statement is of another partition, region or account than the one where devices are registered."},
	{ruleOverrideValue, finding.Error, "OverrideSettings are DO_NOTHING, REPLACE or FAIL, for attributes and groups also MERGE."},
	{ruleOverrideUndefined, finding.Warning, "AWS does not document an override setting of this name for the resource's type."},
	{ruleOverrideMisplaced, finding.Warning, "OverrideSettings stands beside Properties; inside it has no effect."},
	{ruleOverrideWithoutUse, finding.Note, "An override setting is about a property that the resource does not have."},

	{ruleThingName, finding.Error, "A thing's name has 1 to 128 characters of [a-zA-Z0-9:_-]."},
	{ruleThingType, finding.Error, "A thing type's name has 1 to 128 characters of [a-zA-Z0-9:_-]."},
	{ruleThingGroup, finding.Error, "A thing group's name has 1 to 128 characters of [a-zA-Z0-9:_-]."},
	{ruleBillingGroup, finding.Error, "A billing group's name has 1 to 128 characters of [a-zA-Z0-9:_-]."},
	{ruleAttributeName, finding.Error, "An attribute's name has 1 to 128 characters of [a-zA-Z0-9_.,@/:#-]."},
	{ruleAttribute, finding.Error, `An attribute's value has at most 800 characters of [a-zA-Z0-9_.,@/:#=\[\]-]: no spaces.`},
	{rulePolicyName, finding.Error, `A policy's name has 1 to 128 characters of [\w+=,.@-].`},
	{ruleCertificateID, finding.Error, "A certificate's id has 64 hexadecimal digits."},
	{ruleCSR, finding.Error, "A certificate signing request is PEM text of at most 4,096 characters."},
	{ruleCertPEM, finding.Error, "A certificate is PEM text of at most 65,536 characters."},
	{rulePrivateKey, finding.Error, "A private key must never be in a template or a data file: the certificate signing request is what AWS needs."},

	{ruleMissingParameter, finding.Error, "A row, a device or a certificate, by the kind of template, has a value for each parameter that has no Default."},
	{ruleUnknownParameter, finding.Warning, "A row has a value for a name that the template does not use; AWS ignores it."},
}
