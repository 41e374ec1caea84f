{{/* Names, labels and the parts that every role has in common. */}}

{{- define "alyx.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* (list $ "gateway") */}}
{{- define "alyx.selector" -}}
app.kubernetes.io/name: alyx
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "alyx.labels" -}}
{{- $root := index . 0 -}}
{{ include "alyx.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{- define "alyx.secret" -}}
{{- required "secrets.existingSecret is not set: name the Secret that holds the release's secrets (the chart's README says how to make it)" .Values.secrets.existingSecret }}
{{- end }}

{{/* (list $ .Values.image.full) */}}
{{- define "alyx.image" -}}
{{- $root := index . 0 }}{{- $image := index . 1 -}}
{{ $image.repository }}:{{ default (printf "%s%s" $root.Chart.AppVersion (default "" $image.suffix)) $image.tag }}
{{- end }}

{{/* One address for each control plane, comma-separated. */}}
{{- define "alyx.controlPlanes" -}}
{{- $name := include "alyx.name" . -}}
{{- range $i := until (int .Values.controlPlane.replicas) }}{{ if $i }},{{ end }}{{ $name }}-control-plane-{{ $i }}.{{ $name }}-control-plane:8190{{ end }}
{{- end }}

{{- define "alyx.natsAddress" -}}
{{- if .Values.nats.enabled }}{{ include "alyx.name" . }}-nats:4222{{ else }}{{ required "nats.address is not set, and nats.enabled is false: give the host:port of a NATS server" .Values.nats.address }}{{ end }}
{{- end }}

{{- define "alyx.databaseUrl" -}}
{{- if .Values.libsql.enabled }}http://{{ include "alyx.name" . }}-libsql:8080{{ else }}{{ required "libsql.url is not set, and libsql.enabled is false: give the URL of a libSQL server" .Values.libsql.url }}{{ end }}
{{- end }}

{{- define "alyx.env.member" -}}
- name: ALYX_CLUSTER_NAME
  value: {{ .Values.cluster.name | quote }}
- name: ALYX_CLUSTER_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "alyx.secret" . }}
      key: {{ .Values.secrets.clusterTokenKey }}
- name: ALYX_CLUSTER_LISTEN
  value: 0.0.0.0:8190
- name: ALYX_CLUSTER_CONTROL_PLANE
  value: {{ include "alyx.controlPlanes" . }}
- name: ALYX_METRICS_LISTEN
  value: 0.0.0.0:8191
- name: ALYX_LOGGING_FORMAT
  value: json
{{- range $key, $value := .Values.config }}
- name: {{ $key }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "alyx.env.data" -}}
- name: NATS_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "alyx.secret" . }}
      key: {{ .Values.secrets.natsTokenKey }}
- name: ALYX_CLUSTER_NATS
  value: nats://$(NATS_TOKEN)@{{ include "alyx.natsAddress" . }}
- name: ALYX_DATABASE_TURSO_URL
  value: {{ include "alyx.databaseUrl" . }}
- name: ALYX_DATABASE_TURSO_AUTH_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "alyx.secret" . }}
      key: {{ .Values.secrets.databaseTokenKey }}
{{- end }}

{{/* Optional: without the key nobody can sign in. */}}
{{- define "alyx.env.sessions" -}}
- name: ALYX_AUTH_JWT_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ include "alyx.secret" . }}
      key: {{ .Values.secrets.sessionSecretKey }}
      optional: true
{{- end }}

{{/* Optional: without the key there is no admin API. */}}
{{- define "alyx.env.operators" -}}
- name: ALYX_ADMIN_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "alyx.secret" . }}
      key: {{ .Values.secrets.adminTokenKey }}
      optional: true
{{- end }}

{{/* Readiness takes a pod out of its service; liveness restarts only a process that no longer answers at all. */}}
{{- define "alyx.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /health/ready, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe:
  httpGet: {path: /health/live, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{- define "alyx.hardened" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "alyx.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* (list $ "gateway" .Values.gateway): where its pods run. */}}
{{- define "alyx.placement" -}}
{{- $root := index . 0 }}{{- $role := index . 2 -}}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $root.Values.defaults.nodeSelector $role.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $root.Values.defaults.tolerations $role.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $root.Values.defaults.priorityClassName $role.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
affinity:
{{- with default $root.Values.defaults.affinity $role.affinity }}
  {{- toYaml . | nindent 2 }}
{{- else }}
  # Spread over machines where there are several.
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "alyx.selector" (list $root (index . 1)) | nindent 14 }}
{{- end }}
{{- end }}

{{- define "alyx.annotations" -}}
{{- $root := index . 0 }}{{- $role := index . 2 -}}
checksum/project: {{ $root.Values.project.files | toJson | sha256sum }}
{{- with default $root.Values.defaults.podAnnotations $role.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The project's files: a ConfigMap's keys hold no `/`, so that each file has a number for its key. */}}
{{- define "alyx.projectVolume" -}}
{{- if .Values.project.files -}}
- name: project
  configMap:
    name: {{ include "alyx.name" . }}-project
    items:
      {{- range $i, $path := keys .Values.project.files | sortAlpha }}
      - key: file-{{ $i }}
        path: {{ $path | quote }}
      {{- end }}
{{- end }}
{{- end }}

{{- define "alyx.projectMount" -}}
{{- if .Values.project.files -}}
- name: project
  mountPath: /app
  readOnly: true
{{- end }}
{{- end }}

{{/*
The pod of one role. A dict: root, component (its name and its command), values, image; `data` where it reads or writes
the database, `public` where it serves clients, `operators` where it answers them, `keeps` where its /data is a claim of the workload's own.
*/}}
{{- define "alyx.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "alyx.labels" (list $root .component) | nindent 4 }}
  annotations:
    {{- include "alyx.annotations" (list $root .component .values) | nindent 4 }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  securityContext:
    {{- include "alyx.podSecurity" 10001 | nindent 4 }}
  {{- include "alyx.placement" (list $root .component .values) | nindent 2 }}
  containers:
    - name: {{ .component }}
      image: {{ include "alyx.image" (list $root .image) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [{{ .component }}]
      env:
        {{- include "alyx.env.member" $root | nindent 8 }}
        {{- if .data }}
        {{- include "alyx.env.data" $root | nindent 8 }}
        {{- end }}
        {{- if .public }}
        {{- include "alyx.env.sessions" $root | nindent 8 }}
        {{- end }}
        {{- if .operators }}
        {{- include "alyx.env.operators" $root | nindent 8 }}
        {{- end }}
      ports:
        {{- if .public }}
        - {name: http, containerPort: 8090}
        {{- end }}
        - {name: rpc, containerPort: 8190}
        - {name: metrics, containerPort: 8191}
      {{- include "alyx.probes" . | nindent 6 }}
      {{- if .public }}
      # Until every proxy has heard that the pod goes, requests still arrive.
      lifecycle:
        preStop:
          exec: {command: [sleep, "5"]}
      {{- end }}
      securityContext:
        {{- include "alyx.hardened" . | nindent 8 }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        {{- include "alyx.projectMount" $root | nindent 8 }}
        - {name: data, mountPath: /data}
        {{- if .values.filesClaim }}
        - {name: files, mountPath: /data/files}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
  volumes:
    {{- include "alyx.projectVolume" $root | nindent 4 }}
    {{- with .values.filesClaim }}
    - name: files
      persistentVolumeClaim: {claimName: {{ . }}}
    {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: {{ default "256Mi" .values.scratchSize }}}
    {{- if not .keeps }}
    - name: data
      emptyDir: {sizeLimit: {{ default "256Mi" .values.scratchSize }}}
    {{- end }}
{{- end }}
