package fakeaws

import (
	"net/url"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
)

// STS: GetCallerIdentity. The caller is a user of the account named fake, whatever its key.
//
// AWS: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html

var stsService = &queryService{
	name: "sts", namespace: "https://sts.amazonaws.com/doc/2011-06-15/", version: "2011-06-15",
	actions: []*queryAction{
		{"GetCallerIdentity", nil, nil, func(h *Handler, _ *request, _ url.Values) (any, error) {
			options := h.backend.Options()
			return struct{ Arn, UserId, Account string }{
				"arn:" + partition.Of(options.Region).Name + ":iam::" + options.Account + ":user/fake", "AIDAFAKEFAKEFAKEFAKEF", options.Account,
			}, nil
		}},
	},
}
