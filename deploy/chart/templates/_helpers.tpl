{{/* The one image of agent, keeper and operator. */}}
{{- define "pellicle.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "pellicle.labels" -}}
app.kubernetes.io/part-of: cilium
app.kubernetes.io/managed-by: {{ .Release.Service }}
pellicle.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* A changed configuration rolls the pods that read it at start. */}}
{{- define "pellicle.configChecksum" -}}
{{ include (print $.Template.BasePath "/cilium-configmap.yaml") . | sha256sum }}
{{- end }}

{{/* The user's Secret of IPsec keys. */}}
{{- define "pellicle.ipsecSecret" -}}
{{ (.Values.encryption.ipsec).secretName | default "cilium-ipsec-keys" }}
{{- end }}

{{- define "pellicle.apiServerEnv" -}}
{{- if .Values.k8sServiceHost }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .Values.k8sServiceHost | quote }}
{{- end }}
{{- if .Values.k8sServicePort }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.k8sServicePort | toString | quote }}
{{- end }}
{{- end }}
