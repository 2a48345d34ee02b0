package policy

import (
	"slices"
	"strings"
)

// Hole stands in a document for text that is not known yet, such as the value of a template's parameter. What it is
// part of is not judged by [Document.CheckDevice] and [Document.CheckPlace]. It is a character that no document has.
const Hole = "\ue000"

// The types of resources that devices act on, as they begin in an ARN.
const (
	typeClient      = "client/"
	typeTopic       = "topic/"
	typeTopicFilter = "topicfilter/"
	typeThing       = "thing/"
	typeRoleAlias   = "rolealias/"
)

var deviceTypes = [...]string{typeClient, typeTopic, typeTopicFilter, typeThing, typeRoleAlias}

// ActionConnect is the action that every device needs first.
const ActionConnect = "iot:Connect"

// deviceActions are the actions of AWS IoT policies that AWS documents for devices, with the type of resource that
// decides about each; without one the resource is *, or is not judged here.
//
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-policy-actions.html,
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-action-resources.html, and for Greengrass
// https://docs.aws.amazon.com/greengrass/v2/developerguide/device-auth.html.
var deviceActions = []struct{ name, kind string }{
	{ActionConnect, typeClient}, {"iot:DeleteConnection", typeClient},
	{"iot:Publish", typeTopic}, {"iot:Receive", typeTopic}, {"iot:RetainPublish", typeTopic}, {"iot:GetRetainedMessage", typeTopic},
	{"iot:ListRetainedMessages", ""},
	{"iot:Subscribe", typeTopicFilter},
	{"iot:GetThingShadow", typeThing}, {"iot:UpdateThingShadow", typeThing}, {"iot:DeleteThingShadow", typeThing},
	{"iot:ListNamedShadowsForThing", ""},
	// AWS's own examples name topics for these, and the table of resources things.
	{"iot:DescribeJobExecution", ""}, {"iot:GetPendingJobExecutions", ""}, {"iot:StartNextPendingJobExecution", ""},
	{"iot:UpdateJobExecution", ""},
	{"iotjobsdata:DescribeJobExecution", typeThing}, {"iotjobsdata:GetPendingJobExecutions", typeThing},
	{"iotjobsdata:StartNextPendingJobExecution", typeThing}, {"iotjobsdata:UpdateJobExecution", typeThing},
	{"iot:AssumeRoleWithCertificate", typeRoleAlias},
	{"greengrass:Discover", ""}, {"greengrass:GetComponentVersionArtifact", ""}, {"greengrass:GetConnectivityInfo", ""},
	{"greengrass:GetDeploymentConfiguration", ""}, {"greengrass:ListThingGroupsForCoreDevice", ""},
	{"greengrass:PutCertificateAuthorities", ""}, {"greengrass:ResolveComponentCandidates", ""},
	{"greengrass:UpdateConnectivityInfo", ""}, {"greengrass:VerifyClientDeviceIdentity", ""},
	{"greengrass:VerifyClientDeviceIoTCertificateAssociation", ""},
}

// actsOn returns the type of resource that a request for an action is about; "" where AWS documents *.
func actsOn(action string) string {
	for _, known := range deviceActions {
		if len(known.name) != len(action) || !strings.EqualFold(known.name, action) {
			continue
		}
		switch {
		case known.kind != "":
			return known.kind
		case known.name != "iot:ListRetainedMessages" && strings.HasPrefix(known.name, "iot:"):
			return typeThing // what is documented in two ways: * allows it, too
		}
	}
	return ""
}

// DeviceAction returns an action that AWS documents for devices, written as AWS writes it, by its name after the prefix in
// any case; false if there is none. Those of jobs have the prefix that AWS demands over HTTP, iotjobsdata.
func DeviceAction(name string) (action string, ok bool) {
	for _, known := range deviceActions {
		if prefix, own, _ := strings.Cut(known.name, ":"); prefix != "greengrass" && strings.EqualFold(own, name) {
			action, ok = known.name, true
		}
	}
	return action, ok
}

// DeviceActionNames returns the names that [DeviceAction] knows.
func DeviceActionNames() []string {
	var names []string
	for _, known := range deviceActions {
		if prefix, own, _ := strings.Cut(known.name, ":"); prefix == "iot" {
			names = append(names, own)
		}
	}
	return names
}

// OverMQTT reports whether a device does an action in an MQTT connection. The others are requests over HTTP.
func OverMQTT(action string) bool {
	return slices.Contains([]string{ActionConnect, "iot:Publish", "iot:Subscribe", "iot:Receive", "iot:RetainPublish"}, action)
}

// ActsOn returns the resource of an action as it ends an ARN, such as topic/a/b; "*" where AWS documents that.
func ActsOn(action, name string) string {
	if kind := actsOn(action); kind != "" {
		return kind + name
	}
	return "*"
}

var actionNames = func() []string {
	names := make([]string, len(deviceActions))
	for i, a := range deviceActions {
		names[i] = a.name
	}
	return names
}()

// Connects reports what an AWS IoT policy decides about connecting: whether a statement may allow it, to any client,
// and whether one denies it to every client, whatever others allow.
func (d *Document) Connects() (allowed, denied bool) {
	for i := range d.Statements {
		switch s := &d.Statements[i]; {
		case !s.MatchesAction(ActionConnect):
		case s.Effect == Allow:
			allowed = allowed || slices.ContainsFunc(s.Resources, func(r string) bool { return mayBe(r, typeClient) }) ||
				len(s.NotResources) > 0 && !slices.ContainsFunc(s.NotResources, isEveryClient)
		case s.Effect == Deny:
			denied = denied || len(s.Conditions) == 0 && slices.ContainsFunc(s.Resources, isEveryClient)
		}
	}
	return allowed, denied
}

// AllowsEverything reports whether a statement allows all actions, or all except some, on everything, or on all except
// some.
func (d *Document) AllowsEverything() bool {
	return slices.ContainsFunc(d.Statements, func(s Statement) bool {
		// A pattern that takes an action without a name takes every one.
		return s.Effect == Allow && s.MatchesAction("iot:") && (slices.ContainsFunc(s.Resources, isEverything) ||
			len(s.NotResources) > 0 && !slices.ContainsFunc(s.NotResources, isEverything))
	})
}

// isEverything recognises *, and an ARN of everything in a region or an account: arn:aws:iot:us-east-1:123456789012:*
func isEverything(resource string) bool {
	if strings.Trim(resource, "*") == "" {
		return resource != ""
	}
	parts := splitARN(resource)
	return parts[0] == "arn" && strings.HasSuffix(resource, "*") && (len(parts) < 6 || strings.Trim(parts[5], "*") == "")
}

func isEveryClient(resource string) bool {
	parts := splitARN(resource)
	return isEverything(resource) || len(parts) == 6 && strings.TrimRight(parts[5], "*") == typeClient && parts[5] != typeClient
}

// mayBe reports whether a resource can be one of a type, such as "client/". An ARN of topics, for one, is no client.
func mayBe(resource, kind string) bool {
	parts := splitARN(resource)
	if parts[0] != "arn" || len(parts) < 6 {
		return true
	}
	fixed := parts[5]
	if i := strings.IndexAny(fixed, "*?$"+Hole); i >= 0 {
		fixed = fixed[:i]
		return strings.HasPrefix(kind, fixed) || strings.HasPrefix(fixed, kind)
	}
	return strings.HasPrefix(fixed, kind)
}

// splitARN cuts an ARN at its first five colons. A colon within ${…} is part of a variable's name.
func splitARN(arn string) []string {
	parts := make([]string, 0, 6)
	inside := false
	start := 0
	for i := 0; i < len(arn) && len(parts) < 5; i++ {
		switch {
		case strings.HasPrefix(arn[i:], "${"):
			inside = true
		case arn[i] == '}':
			inside = false
		case arn[i] == ':' && !inside:
			parts = append(parts, arn[start:i])
			start = i + 1
		}
	}
	return append(parts, arn[start:])
}

// open reports whether a part of an ARN can be more than one text.
func open(part string) bool { return strings.ContainsAny(part, "*?"+Hole) }
