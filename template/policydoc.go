package template

import "fmt"

// OwnTopics is a policy document that lets a device connect under its own thing name, and publish, subscribe and
// receive on topics below devices/<thing name>/, and nothing else. The certificate must be attached to the thing, as
// AWS does when the template has both. partition is "aws", "aws-cn" or another one of AWS's.
//
// See https://docs.aws.amazon.com/iot/latest/developerguide/thing-policy-variables.html.
func OwnTopics(partition, region, account string) Literal {
	const (
		client = "client/${iot:Connection.Thing.ThingName}"
		topics = "devices/${iot:Connection.Thing.ThingName}/*"
	)
	arn := fmt.Sprintf("arn:%s:iot:%s:%s:", partition, region, account)
	statement := func(actions, resource string) string {
		return `{"Effect":"Allow","Action":[` + actions + `],"Resource":[` + quote(arn+resource) + `]}`
	}
	return Literal(`{"Version":"2012-10-17","Statement":[` + statement(`"iot:Connect"`, client) + "," +
		statement(`"iot:Publish","iot:Receive"`, "topic/"+topics) + "," + statement(`"iot:Subscribe"`, "topicfilter/"+topics) + `]}`)
}
