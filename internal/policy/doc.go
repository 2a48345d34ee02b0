// Package policy reads and evaluates policy documents, those of IAM (a role's trust and permissions) and those of
// AWS IoT (what a device may do), which share one language.
//
//	doc, problems := policy.Parse(text)
//	if len(problems) > 0 {
//		return problems[0]
//	}
//	d := policy.Evaluate(policy.Request{
//		Action:   "iot:Publish",
//		Resource: "arn:aws:iot:eu-central-1:123456789012:topic/devices/pump-1/state",
//		Context:  connection, // values of iot:ClientId, iot:Connection.Thing.ThingName, …
//	}, doc)
//	if !d.Allowed() {
//		log.Info("publish refused", "by", d) // "statement 2 (Sid NoState) of policy 1 denies it"
//	}
//
// What a device may do is asked of a [Connection], which knows the keys that AWS IoT has for devices:
//
//	connection := policy.NewConnection(policy.Device{ClientID: "pump-1", Thing: thing, …})
//	d := connection.Decide("iot:Publish", "devices/pump-1/state", documents...)
//
// A document is compiled when it is parsed. A decision then makes no allocation, unless the Context makes one.
// Documents are not changed after Parse and may be shared between goroutines.
//
// The language: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html. How requests are
// decided: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html. What AWS IoT
// adds: https://docs.aws.amazon.com/iot/latest/developerguide/iot-policies.html.
//
// Not here: permission boundaries, service control and session policies, and comparisons of numbers, dates and binary
// values. Documents may use those comparisons, but no key with such a value is ever set, so they are decided as for a
// key that the request does not have.
package policy
