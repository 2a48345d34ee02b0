package partition

import "strings"

// ARN is an Amazon Resource Name: arn:partition:service:region:account:resource.
type ARN struct{ Partition, Service, Region, Account, Resource string }

// ParseARN takes an ARN apart; false if s is none. What is in the parts is not checked.
func ParseARN(s string) (a ARN, ok bool) {
	if s, ok = strings.CutPrefix(s, "arn:"); !ok {
		return ARN{}, false
	}
	for _, part := range []*string{&a.Partition, &a.Service, &a.Region, &a.Account} {
		if *part, s, ok = strings.Cut(s, ":"); !ok {
			return ARN{}, false
		}
	}
	a.Resource = s
	return a, true
}

// IsAccount reports whether s has the form of an account's id: 12 digits.
func IsAccount(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }
