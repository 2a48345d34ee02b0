package partition_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
)

func TestAnARNIsTakenApart(t *testing.T) {
	for text, want := range map[string]partition.ARN{
		"arn:aws:iot:eu-west-1:123456789012:thing/a:b": {"aws", "iot", "eu-west-1", "123456789012", "thing/a:b"},
		"arn:aws-cn:s3:::bucket/key":                   {"aws-cn", "s3", "", "", "bucket/key"},
		"arn:::::":                                     {},
	} {
		got, ok := partition.ParseARN(text)
		assert.True(t, ok, text)
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"", "arn", "arn:aws:iot:eu-west-1:123456789012", "urn:aws:iot:eu-west-1:123456789012:thing/a", "123456789012", "*"} {
		got, ok := partition.ParseARN(text)
		assert.False(t, ok, text)
		assert.Zero(t, got)
	}
}

func FuzzParseARN(f *testing.F) {
	f.Add("arn:aws:iot:eu-west-1:123456789012:thing/a:b")
	f.Add("arn:aws:iot:eu-west-1")
	f.Fuzz(func(t *testing.T, text string) {
		a, ok := partition.ParseARN(text)
		if ok {
			assert.Equal(t, text, "arn:"+a.Partition+":"+a.Service+":"+a.Region+":"+a.Account+":"+a.Resource)
		} else {
			assert.Zero(t, a)
		}
	})
}

func TestAnAccountHasTwelveDigits(t *testing.T) {
	assert.True(t, partition.IsAccount("012345678901"))
	for _, text := range []string{"", "12345678901", "1234567890123", "12345678901a", "١٢٣٤٥٦"} {
		assert.False(t, partition.IsAccount(text), text)
	}
}
