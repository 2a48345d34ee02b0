package fakeaws

import (
	"net/url"
	"strings"
)

// STS: GetCallerIdentity. The caller is a user of the account named fake, whatever its key.
//
// AWS: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html

var stsService = &queryService{
	name: "sts", namespace: "https://sts.amazonaws.com/doc/2011-06-15/", version: "2011-06-15",
	actions: []*queryAction{
		{"GetCallerIdentity", nil, nil, func(h *Handler, _ *request, _ url.Values) (any, error) {
			options := h.backend.Options()
			partition := "aws"
			switch {
			case strings.HasPrefix(options.Region, "cn-"):
				partition = "aws-cn"
			case strings.HasPrefix(options.Region, "us-gov-"):
				partition = "aws-us-gov"
			}
			return struct{ Arn, UserId, Account string }{
				"arn:" + partition + ":iam::" + options.Account + ":user/fake", "AIDAFAKEFAKEFAKEFAKEF", options.Account,
			}, nil
		}},
	},
}
