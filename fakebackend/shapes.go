package fakebackend

import (
	"errors"
	"regexp"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// shapes are the shapes of the members that the fake's operations have, by their names in AWS's API model.
var shapes = map[string]restjson.Shape{
	"ActionType":                {Enum: []string{"PUBLISH", "SUBSCRIBE", "RECEIVE", "CONNECT"}},
	"AttributeName":             withoutMin(ruled(rule.AttributeName)),
	"AttributeValue":            ruled(rule.AttributeValue),
	"AutoRegistrationStatus":    {Enum: []string{"ENABLE", "DISABLE"}},
	"BillingGroupDescription":   description,
	"BillingGroupName":          ruled(rule.BillingGroupName),
	"CACertificateStatus":       {Enum: []string{"ACTIVE", "INACTIVE"}},
	"CertificateId":             ruled(rule.CertificateID),
	"CertificateMode":           {Enum: []string{modeDefault, modeSNIOnly}},
	"CertificatePem":            {Min: 1, Max: 65536},
	"CertificateSigningRequest": {Min: 1, Max: rule.CSR},
	"CertificateStatus":         {Enum: certStatuses[:]},
	"ConnectionAttributeName":   matching(0, 128, `[a-zA-Z0-9:.]+`),
	"EndpointType":              {Max: 128},
	"Marker":                    matching(0, 1024, `[A-Za-z0-9+/]+={0,2}`),
	"MaxResults":                {Min: 1, Max: maxPage},
	"PageSize":                  {Min: 1, Max: maxPage},
	"Parameter":                 {Max: rule.ParameterName, Pattern: `[\s\S]*`},
	"PayloadVersion":            published(matching(10, 32, `[0-9-]+`), `^[0-9-]+$`),
	"PolicyDocument":            {Max: 404600},
	"PolicyName":                ruled(rule.PolicyName),
	"PolicyVersionId":           matching(0, 0, `[0-9]+`),
	"RegistryS3BucketName":      ruled(rule.Bucket),
	"RegistryS3KeyName":         ruled(rule.ObjectKey),
	"ReportType":                {Enum: []string{string(task.ErrorsReport), string(task.ResultsReport)}},
	"RoleArn":                   {Min: 20, Max: 2048},
	"TagKey":                    published(matching(1, 128, `[\p{L}\p{Z}\p{N}_.:/=+\-@]*`), `^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`),
	"TagValue":                  {Max: 256},
	"TargetArn":                 {Max: 2048},
	"TaskId":                    {Max: 40},
	"TaskStatus": {Enum: []string{
		string(task.InProgress), string(task.Completed), string(task.Failed), string(task.Cancelled), string(task.Cancelling),
	}},
	"TemplateBody":          {Max: rule.TemplateBody},
	"TemplateDescription":   matching(0, 500, `[^\p{C}]*`),
	"TemplateName":          published(matching(1, 36, `[0-9A-Za-z_-]+`), `^[0-9A-Za-z_-]+$`),
	"TemplateType":          {Enum: []string{typeFleet, typeJITP}},
	"ThingGroupDescription": description,
	"ThingGroupName":        ruled(rule.ThingGroupName),
	"ThingName":             ruled(rule.ThingName),
	"ThingPrincipalType":    {Enum: []string{exclusiveThing, nonExclusiveThing}},
	"ThingTypeDescription":  description,
	"ThingTypeName":         ruled(rule.ThingTypeName),
	"UserPropertyKeyName":   matching(0, 128, `[a-zA-Z0-9:$.]+`),
	"Value":                 {Max: rule.ParameterValue, Pattern: `[\s\S]*`},
}

// shapeNamed returns a shape for the steps of a line, which are held to the same shapes as requests.
func shapeNamed(name string) restjson.Shape {
	s, ok := shapes[name]
	if !ok {
		panic("fakebackend: there is no shape " + name) // a slip in this package
	}
	return s
}

// maxPage is the greatest maxResults or pageSize of AWS IoT's list operations.
const maxPage = 250

var description = published(matching(0, 2028, `[\p{L}\p{M}\p{N}\p{P}\p{S}\x20]*`), `[\p{Graph}\x20]*`)

// ruled is the shape of a rule. The rule's own lengths are checked apart, so that each failure gets AWS's message.
func ruled(r *rule.Rule) restjson.Shape {
	return restjson.Shape{Min: r.Min, Max: r.Max, Pattern: r.Pattern, Match: func(s string) bool {
		v, ok := errors.AsType[*rule.Violation](r.Check(s))
		return !ok || v.Offset < 0
	}}
}

func matching(least, most int, pattern string) restjson.Shape {
	return restjson.Shape{Min: least, Max: most, Pattern: pattern, Match: regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString}
}

// published is a shape whose pattern AWS writes in another way than Go's regular expressions need it.
func published(s restjson.Shape, pattern string) restjson.Shape {
	s.Pattern = pattern
	return s
}

// withoutMin is the shape of a string whose length the model bounds only above, so that an empty one fails the pattern.
func withoutMin(s restjson.Shape) restjson.Shape {
	match := s.Match
	s.Min, s.Match = 0, func(value string) bool { return value != "" && match(value) }
	return s
}

// violation is the refusal of a request that breaks constraints of the model; nil when the message is "".
func violation(message string) *task.Error {
	if message == "" {
		return nil
	}
	return refuse(codeInvalidRequest, "%s", message)
}
