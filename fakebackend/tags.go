package fakebackend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// Tags: TagResource, UntagResource, ListTagsForResource.
//
// Models: tags of thing types, thing groups, billing groups, policies and CA certificates. AWS tags more kinds of
// resource, none of which the fake has.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_TagResource.html

// Tag is a key with a value.
type Tag struct {
	Key   string `json:"Key"`
	Value string `json:"Value,omitempty"`
}

// maxTags is how many tags a resource can have.
const maxTags = 50

func (c *checker) tags(tags []Tag) {
	for i, t := range tags {
		c.need(fmt.Sprintf("tags.%d.member.key", i+1), t.Key, shapeTagKey)
		c.may(fmt.Sprintf("tags.%d.member.value", i+1), t.Value, shapeTagValue)
	}
}

// TagResourceInput is the request of TagResource.
type TagResourceInput struct {
	ResourceARN string `json:"resourceArn"`
	Tags        []Tag  `json:"tags"`
}

// TagResourceOutput is the answer to TagResource.
type TagResourceOutput struct{}

// TagResource adds tags to a resource, or changes their values.
func (b *IoT) TagResource(ctx context.Context, in *TagResourceInput) (*TagResourceOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("resourceArn", in.ResourceARN, shapeAny)
		c.there("tags", in.Tags != nil)
		c.tags(in.Tags)
	}
	return invoke(ctx, b, "TagResource", "", check, func(time.Time) (*TagResourceOutput, *task.Error) {
		if err := b.taggable(in.ResourceARN); err != nil {
			return nil, err
		}
		all := slices.Clone(b.st.tags[in.ResourceARN])
		for _, t := range in.Tags {
			if i := slices.IndexFunc(all, func(o Tag) bool { return o.Key == t.Key }); i >= 0 {
				all[i] = t
			} else {
				all = append(all, t)
			}
		}
		if len(all) > maxTags {
			return nil, refuse(codeLimitExceeded, "A resource can have at most %d tags", maxTags)
		}
		b.setTags(in.ResourceARN, all)
		return &TagResourceOutput{}, nil
	})
}

// UntagResourceInput is the request of UntagResource.
type UntagResourceInput struct {
	ResourceARN string   `json:"resourceArn"`
	TagKeys     []string `json:"tagKeys"`
}

// UntagResourceOutput is the answer to UntagResource.
type UntagResourceOutput struct{}

// UntagResource removes tags from a resource; keys it does not have are no error.
func (b *IoT) UntagResource(ctx context.Context, in *UntagResourceInput) (*UntagResourceOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("resourceArn", in.ResourceARN, shapeAny)
		c.there("tagKeys", in.TagKeys != nil)
		c.items("tagKeys", in.TagKeys, shapeTagKey)
	}
	return invoke(ctx, b, "UntagResource", "", check, func(time.Time) (*UntagResourceOutput, *task.Error) {
		if err := b.taggable(in.ResourceARN); err != nil {
			return nil, err
		}
		b.setTags(in.ResourceARN, slices.DeleteFunc(slices.Clone(b.st.tags[in.ResourceARN]), func(t Tag) bool {
			return slices.Contains(in.TagKeys, t.Key)
		}))
		return &UntagResourceOutput{}, nil
	})
}

// ListTagsForResourceInput is the request of ListTagsForResource.
type ListTagsForResourceInput struct {
	ResourceARN string `json:"resourceArn"`
	NextToken   string `json:"nextToken,omitempty"`
}

// ListTagsForResourceOutput is the answer to ListTagsForResource.
type ListTagsForResourceOutput struct {
	Tags      []Tag  `json:"tags"`
	NextToken string `json:"nextToken,omitempty"`
}

// ListTagsForResource lists the tags of a resource in the order they were added.
func (b *IoT) ListTagsForResource(ctx context.Context, in *ListTagsForResourceInput) (*ListTagsForResourceOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("resourceArn", in.ResourceARN, shapeAny) }
	return invoke(ctx, b, "ListTagsForResource", "", check, func(time.Time) (*ListTagsForResourceOutput, *task.Error) {
		if err := b.taggable(in.ResourceARN); err != nil {
			return nil, err
		}
		page, next, err := slicePage(b.st.tags[in.ResourceARN], in.NextToken, "nextToken", b.opts.PageSize)
		return &ListTagsForResourceOutput{append([]Tag{}, page...), next}, err
	})
}

func (b *IoT) setTags(arn string, tags []Tag) {
	if len(tags) == 0 {
		delete(b.st.tags, arn)
		return
	}
	if b.st.tags == nil {
		b.st.tags = make(map[string][]Tag)
	}
	b.st.tags[arn] = slices.Clone(tags)
}

// taggable refuses an ARN that names nothing that can have tags.
func (b *IoT) taggable(arn string) *task.Error {
	resource, ok := strings.CutPrefix(arn, b.arnPrefix)
	kind, name, _ := strings.Cut(resource, "/")
	switch {
	case !ok:
		return refuse(codeInvalidRequest, "Invalid resource ARN: %s", cutValue(arn))
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
	default:
		return refuse(codeInvalidRequest, "Resource %s cannot have tags", cutValue(arn))
	}
	if !ok {
		return refuse(codeNotFound, "Resource %s not found", cutValue(arn))
	}
	return nil
}
