{{/* The release's name, with the chart's unless it is in it; a DNS label. */}}
{{- define "tiercel.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods; it never changes within a release. */}}
{{- define "tiercel.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tiercel.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "tiercel.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The secret with the clients' key; "" without one. */}}
{{- define "tiercel.keySecret" -}}
{{- if .Values.apiKey.existingSecret -}}
{{- .Values.apiKey.existingSecret -}}
{{- else if .Values.apiKey.value -}}
{{- include "tiercel.name" . }}-api-key
{{- end -}}
{{- end -}}

{{/* One probe: (dict "probe" of the values). */}}
{{- define "tiercel.probe" -}}
httpGet:
  path: /health
  port: http
{{ toYaml .probe }}
{{- end -}}
