package provision

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/template"
)

// ForTemplate returns a step of this package as the template needs it: if its Parameter is empty, a copy of it with the
// parameter that the template's certificate takes from it, whatever its name. Any other step is returned as it is. [New]
// calls it for [Options.Credential]; a step of one's own that wraps one of these calls it for the inner one.
func ForTemplate(step Credential, t *template.Template) Credential {
	switch s := step.(type) {
	case *MakeCSR:
		if s != nil && s.Parameter == "" {
			s := *s
			s.Parameter = certificateParameter(t, requestOf)
			return &s
		}
	case *GivenCSR:
		if s != nil && s.Parameter == "" {
			s := *s
			s.Parameter = certificateParameter(t, requestOf)
			return &s
		}
	case *GivenCertificate:
		if s != nil && s.Parameter == "" {
			s := *s
			s.Parameter = certificateParameter(t, pemOf)
			return &s
		}
	case *IssueCertificate:
		if s != nil {
			s := *s
			s.Parameter = cmp.Or(s.Parameter, certificateParameter(t, pemOf))
			s.CAParameter = cmp.Or(s.CAParameter, certificateParameter(t, caOf))
			return &s
		}
	case *GivenCertificateID:
		if s != nil && s.Parameter == "" {
			return &GivenCertificateID{Parameter: certificateParameter(t, idOf)}
		}
	}
	return step
}

// What a certificate can be made from.
func requestOf(c template.Certificate) template.Value { return c.CertificateSigningRequest }
func pemOf(c template.Certificate) template.Value     { return c.CertificatePEM }
func caOf(c template.Certificate) template.Value      { return c.CACertificatePEM }
func idOf(c template.Certificate) template.Value      { return c.CertificateID }

// certificateParameter returns the parameter that a property of the template's certificate is; "" if it is none.
func certificateParameter(t *template.Template, property func(template.Certificate) template.Value) string {
	for _, res := range t.Resources {
		if c, ok := res.(template.Certificate); ok {
			if name, ok := property(c).(template.Ref); ok {
				return string(name)
			}
		}
	}
	return ""
}

// checkStep refuses a credential step with which every device would fail, because the template asks for another one.
func checkStep(step Credential, t *template.Template, parameters []string) error {
	for _, name := range step.Fills() {
		if !slices.Contains(parameters, name) {
			return fmt.Errorf("provision: the credential step %T fills the parameter %q, which the template does not have, only %s; "+
				"declare it, as template.FromCSR, FromCertificatePEM and FromOwnCA do, name the template's own in its Parameter, or take another step", step, name, strings.Join(parameters, ", "))
		}
	}
	var parameter, property, takes string
	switch s := step.(type) {
	case *MakeCSR:
		parameter, property, takes = s.Fills()[0], "CertificateSigningRequest", certificateParameter(t, requestOf)
	case *GivenCSR:
		parameter, property, takes = s.Fills()[0], "CertificateSigningRequest", certificateParameter(t, requestOf)
	case *GivenCertificate:
		parameter, property, takes = s.Fills()[0], "CertificatePem", certificateParameter(t, pemOf)
	case *IssueCertificate:
		parameter, property, takes = s.Fills()[0], "CertificatePem", certificateParameter(t, pemOf)
	case *GivenCertificateID:
		parameter, property, takes = s.parameter(), "CertificateId", certificateParameter(t, idOf)
	}
	if parameter != takes {
		return fmt.Errorf("provision: the credential step %T fills the parameter %q, and the template does not take its certificate's %s from it; "+
			"take the step that fits the template, and leave its Parameter empty", step, parameter, property)
	}
	if _, none := As[NoCertificate](step); !none {
		return nil
	}
	for _, res := range t.Resources {
		if _, ok := res.(template.Certificate); ok {
			return errors.New("provision: the credential step is NoCertificate, and the template makes a certificate; " +
				"take MakeCSR, IssueCertificate, GivenCSR, GivenCertificate or GivenCertificateID")
		}
	}
	return nil
}
