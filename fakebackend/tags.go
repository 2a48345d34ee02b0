package fakebackend

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Tags: TagResource, UntagResource, ListTagsForResource.
//
// Models: tags of thing types, thing groups, billing groups, policies, CA certificates and provisioning templates. AWS
// tags more kinds of resource, none of which the fake has.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_TagResource.html

var tagOperations = []*operation{
	operationOf("TagResource", "POST /tags", (*account).tagResource),
	operationOf("UntagResource", "POST /untag", (*account).untagResource),
	listOf("ListTagsForResource", "GET /tags", "tags", (*account).listTagsForResource),
}

// tag is a key with a value.
type tag struct {
	Key   string `json:"Key" is:"TagKey" required:"true"`
	Value string `json:"Value,omitempty" is:"TagValue"`
}

// maxTags is how many tags a resource can have.
const maxTags = 50

type tagResourceInput struct {
	ResourceARN string `json:"resourceArn" required:"true"`
	Tags        []tag  `json:"tags" required:"true"`
}

// tagResource adds tags to a resource, or changes their values.
func (b *account) tagResource(_ time.Time, in *tagResourceInput) (*nothing, *task.Error) {
	if err := cmp.Or(b.taggable(in.ResourceARN), checkTags(in.Tags)); err != nil {
		return nil, err
	}
	all := slices.Clone(b.st.tags[in.ResourceARN])
	for _, t := range in.Tags {
		if i := slices.IndexFunc(all, func(o tag) bool { return o.Key == t.Key }); i >= 0 {
			all[i] = t
		} else {
			all = append(all, t)
		}
	}
	if len(all) > maxTags {
		return nil, refuse(codeLimitExceeded, "A resource can have at most %d tags", maxTags)
	}
	b.setTags(in.ResourceARN, all)
	return nil, nil
}

type untagResourceInput struct {
	ResourceARN string   `json:"resourceArn" required:"true"`
	TagKeys     []string `json:"tagKeys" is:"TagKey" required:"true"`
}

// untagResource removes tags from a resource; keys it does not have are no error.
func (b *account) untagResource(_ time.Time, in *untagResourceInput) (*nothing, *task.Error) {
	if err := b.taggable(in.ResourceARN); err != nil {
		return nil, err
	}
	b.setTags(in.ResourceARN, slices.DeleteFunc(slices.Clone(b.st.tags[in.ResourceARN]), func(t tag) bool {
		return slices.Contains(in.TagKeys, t.Key)
	}))
	return nil, nil
}

type listTagsForResourceInput struct {
	ResourceARN string `query:"resourceArn" required:"true"`
	nextToken
}

// listTagsForResource lists the tags of a resource in the order they were added.
func (b *account) listTagsForResource(in *listTagsForResourceInput, p *page) ([]tag, *task.Error) {
	if err := b.taggable(in.ResourceARN); err != nil {
		return nil, err
	}
	return itemsOf(p, b.st.tags[in.ResourceARN], func(t tag) tag { return t }), nil
}

// checkTags refuses keys that AWS keeps for itself.
func checkTags(tags []tag) *task.Error {
	for _, t := range tags {
		if strings.HasPrefix(strings.ToLower(t.Key), "aws:") {
			return refuse(codeInvalidRequest, "The tag key %s begins with aws:, which is reserved", restjson.Cut(t.Key))
		}
	}
	return nil
}

func (b *account) setTags(arn string, tags []tag) {
	if len(tags) == 0 {
		delete(b.st.tags, arn)
		return
	}
	if b.st.tags == nil {
		b.st.tags = make(map[string][]tag)
	}
	b.st.tags[arn] = slices.Clone(tags)
}

// taggable refuses an ARN that names nothing that can have tags.
func (b *account) taggable(arn string) *task.Error {
	resource, ok := strings.CutPrefix(arn, b.arnPrefix)
	kind, name, _ := strings.Cut(resource, "/")
	switch {
	case !ok:
		return refuse(codeInvalidRequest, "Invalid resource ARN: %s", restjson.Cut(arn))
	case kind == "thingtype":
		_, ok = b.st.thingTypes.get(name)
	case kind == "thinggroup":
		_, ok = b.st.thingGroups.get(name)
	case kind == "billinggroup":
		_, ok = b.st.billingGroups.get(name)
	case kind == "policy":
		_, ok = b.st.policies.get(name)
	case kind == "cacert":
		id, _ := parseCertificateID(name)
		_, ok = b.st.cas.get(id)
	case kind == "provisioningtemplate":
		_, ok = b.st.templates.get(name)
	default:
		return refuse(codeInvalidRequest, "Resource %s cannot have tags", restjson.Cut(arn))
	}
	if !ok {
		return refuse(codeNotFound, "Resource %s not found", restjson.Cut(arn))
	}
	return nil
}
