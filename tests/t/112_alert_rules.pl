# The alert rules in deploy/: Prometheus takes them, each fires when it should, and is silent on an ordinary day.
# Checked by promtool (scripts/unpack-promtool), with series labelled as relays label theirs.

use strict;
use warnings;

use Test::More;

my $PROMTOOL = "$ENV{TIDE_TOP}/build/tools/promtool";
my $RULES = "$ENV{TIDE_TOP}/deploy/pg_tide.rules.yml";
plan skip_all => 'promtool can not be had from Debian here (scripts/unpack-promtool)' unless -x $PROMTOOL;

# Labels of what a relay says of: a pipeline, a class, a class from a region, a class with its peer, a slot.
my $JOB = 'job="pg_tide",instance="eu:9187"';
my %LABELS = (
	pipeline => qq({pipeline="link:us-east",direction="link",$JOB}),
	state    => qq({pipeline="link:us-east",direction="link",state="%s",$JOB}),
	class    => qq({class="payments",$JOB}),
	region   => qq({region="us-east",class="payments",$JOB}),
	peer     => qq({peer="us-east",class="payments",$JOB}),
	slot     => qq({region="us-east",slot="tide_link_us_east",$JOB}),
	relay    => qq({$JOB}));

# A sample every 15 s, for an hour.
sub series
{
	my ($name, $kind, $values) = @_;
	my $labels = $kind =~ /^state:(.*)/ ? sprintf $LABELS{state}, $1 : $LABELS{$kind};
	return "$name$labels $values";
}
sub steady { my ($name, $kind, $value) = @_; return series($name, $kind, "${value}x240"); }
sub grows { my ($name, $kind, $step) = @_; return series($name, $kind, "0+${step}x240"); }

# Grows by one after half an hour.
sub once { my ($name, $kind) = @_; return series($name, $kind, '0x120 1x120'); }

# The slowest of 100 events.
sub slow
{
	my ($seconds) = @_;
	return map {
		sprintf 'pg_tide_commit_to_delivered_seconds_bucket{pipeline="out",direction="out",le="%s",%s} 0+%dx240', $_, $JOB, $_ eq '+Inf' || $_ >= $seconds ? 100 : 50
	} qw(0.1 1 5 10 60 +Inf);
}

# What is as it should be.  Each rule changes some of that.
my %ordinary = (
	up                                         => [ steady('up', 'relay', 1) ],
	process_start_time_seconds                 => [ steady('process_start_time_seconds', 'relay', 1000) ],
	pg_tide_pipeline_owned                     => [ steady('pg_tide_pipeline_owned', 'pipeline', 1) ],
	pg_tide_pipeline_state                     => [ steady('pg_tide_pipeline_state', 'state:running', 1), map { steady('pg_tide_pipeline_state', "state:$_", 0) } qw(disabled retrying failed) ],
	pg_tide_oldest_unsent_age_seconds          => [ steady('pg_tide_oldest_unsent_age_seconds', 'pipeline', 1) ],
	pg_tide_unconfirmed_events                 => [ steady('pg_tide_unconfirmed_events', 'pipeline', 100) ],
	pg_tide_events_confirmed_total             => [ grows('pg_tide_events_confirmed_total', 'pipeline', 50) ],
	pg_tide_commit_to_delivered_seconds_bucket => [ slow(1) ],
	pg_tide_class_objective_seconds            => [ steady('pg_tide_class_objective_seconds', 'class', 5) ],
	pg_tide_sync_peer_connected                => [ steady('pg_tide_sync_peer_connected', 'peer', 1) ],
	pg_tide_sync_peer_listed                   => [ steady('pg_tide_sync_peer_listed', 'peer', 1) ],
	pg_tide_wal_seconds_to_full                => [ steady('pg_tide_wal_seconds_to_full', 'slot', 864000) ],
	pg_tide_class_slo_met_share                => [ steady('pg_tide_class_slo_met_share', 'class', 0.9995) ],
	pg_tide_class_lag_seconds                  => [ steady('pg_tide_class_lag_seconds', 'region', 0.3) ],
	pg_tide_row_lag_seconds                    => [ steady('pg_tide_row_lag_seconds', 'pipeline', 0.3) ],
	(map { $_ => [ steady($_, 'pipeline', 0) ] } qw(pg_tide_link_held pg_tide_events_failed_total pg_tide_rows_parked_total pg_tide_link_tables_drifted
		pg_tide_resyncs_total pg_tide_classes_differ)),
	pg_tide_class_held                     => [ steady('pg_tide_class_held', 'region', 0) ],
	pg_tide_class_residency_overdue_seconds => [ steady('pg_tide_class_residency_overdue_seconds', 'class', 0) ],
	pg_tide_wal_slot_lost                  => [ steady('pg_tide_wal_slot_lost', 'slot', 0) ],
	pg_tide_oldest_transaction_seconds     => [ steady('pg_tide_oldest_transaction_seconds', 'relay', 1) ],
	pg_tide_sync_waits_ended_total         => [ steady('pg_tide_sync_waits_ended_total', 'peer', 0) ],
);

sub in_state { my ($state) = @_; return (pg_tide_pipeline_state => [ steady('pg_tide_pipeline_state', "state:$state", 1) ]); }
sub one { my ($name, $kind, $value) = @_; return ($name => [ steady($name, $kind, $value) ]); }

# What happened; which alerts there are half an hour later, no others.
my @days = (
	[ 'an ordinary one' ],
	[ 'the relay is gone', 'PgTideRelayDown', one('up', 'relay', 0) ],
	[ 'nobody runs it', 'PgTidePipelineUnowned', one('pg_tide_pipeline_owned', 'pipeline', 0) ],
	[ 'nobody runs it, nor should', '', one('pg_tide_pipeline_owned', 'pipeline', 0), in_state('disabled') ],
	[ 'failed', 'PgTidePipelineFailed', in_state('failed') ],
	[ 'retrying', 'PgTidePipelineRetrying', in_state('retrying') ],
	[ 'events wait', 'PgTideLate', one('pg_tide_oldest_unsent_age_seconds', 'pipeline', 61) ],
	[ 'nobody confirms', 'PgTideUnconfirmed', one('pg_tide_events_confirmed_total', 'pipeline', 7) ],
	[ 'nobody confirms, as there is nothing', '', one('pg_tide_events_confirmed_total', 'pipeline', 7), one('pg_tide_unconfirmed_events', 'pipeline', 0) ],
	[ 'a dead letter', 'PgTideDeadLetters', pg_tide_events_failed_total => [ once('pg_tide_events_failed_total', 'pipeline') ] ],
	[ 'slow', 'PgTideSlow', pg_tide_commit_to_delivered_seconds_bucket => [ slow(10) ] ],
	[ 'it starts again and again', 'PgTideRestarting', process_start_time_seconds => [ series('process_start_time_seconds', 'relay', '1000+60x240') ] ],
	[ 'rows are late', 'PgTideRowsLate', one('pg_tide_row_lag_seconds', 'pipeline', 6) ],
	[ 'rows are very late', 'PgTideRowsLate PgTideRowsVeryLate', one('pg_tide_row_lag_seconds', 'pipeline', 31) ],
	[ 'rows are late as their lane is held back', 'PgTideClassHeld', one('pg_tide_row_lag_seconds', 'pipeline', 31), one('pg_tide_link_held', 'pipeline', 1),
		one('pg_tide_class_lag_seconds', 'region', 31), one('pg_tide_class_held', 'region', 1) ],
	[ 'a class is late', 'PgTideClassLate', one('pg_tide_class_lag_seconds', 'region', 6) ],
	[ 'an objective is missed', 'PgTideObjectiveMissed', one('pg_tide_class_slo_met_share', 'class', 0.98) ],
	[ 'rows stay where they may not be', 'PgTideResidencyOverdue', one('pg_tide_class_residency_overdue_seconds', 'class', 301) ],
	[ 'half a day to a full disk', 'PgTideWalFillsSoon', one('pg_tide_wal_seconds_to_full', 'slot', 43200) ],
	[ 'half an hour to a full disk', 'PgTideWalFillsSoon PgTideWalFull', one('pg_tide_wal_seconds_to_full', 'slot', 1800) ],
	[ 'WAL does not grow', '', pg_tide_wal_seconds_to_full => [] ],
	[ 'a slot is lost', 'PgTideSlotLost', one('pg_tide_wal_slot_lost', 'slot', 1) ],
	[ 'an old transaction', 'PgTideOldTransaction', one('pg_tide_oldest_transaction_seconds', 'relay', 3601) ],
	[ 'a row is refused', 'PgTideRowsParked', pg_tide_rows_parked_total => [ once('pg_tide_rows_parked_total', 'pipeline') ] ],
	[ 'a table differs', 'PgTideSchemaDrift', one('pg_tide_link_tables_drifted', 'pipeline', 1) ],
	[ 'a resync', 'PgTideResync', pg_tide_resyncs_total => [ once('pg_tide_resyncs_total', 'pipeline') ] ],
	[ 'classes differ', 'PgTideClassesDiffer', one('pg_tide_classes_differ', 'pipeline', 1) ],
	[ 'a commit without its answer', 'PgTideSyncWaitEnded', pg_tide_sync_waits_ended_total => [ once('pg_tide_sync_waits_ended_total', 'peer') ] ],
	[ 'the peer is away', 'PgTideSyncPeerAway', one('pg_tide_sync_peer_connected', 'peer', 0) ],
	[ 'nobody waits for the peer', 'PgTideSyncPeerAway', one('pg_tide_sync_peer_listed', 'peer', 0) ],
);

sub quoted { my ($text) = @_; $text =~ s/'/''/g; return "'$text'"; }

sub day_as_yaml
{
	my ($name, $alerts, %changed) = @_;
	my %series = (%ordinary, %changed);
	my $yaml = "  - interval: 15s\n    name: " . quoted($name) . "\n    input_series:\n";
	for my $line (map { @$_ } @series{ sort keys %series })
	{
		my ($what, $values) = $line =~ /^(\S+?\}) (.*)$/;
		$yaml .= "      - series: " . quoted($what) . "\n        values: '$values'\n";
	}
	$yaml .= "    promql_expr_test:\n      - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})'\n        eval_time: 33m\n        exp_samples:";
	$yaml .= join '', "\n", map { "          - labels: '{alertname=\"$_\"}'\n            value: 1\n" } split / /, $alerts if $alerts;
	return $yaml . ($alerts ? '' : " []\n");
}

sub promtool
{
	my (@args) = @_;
	my $out = '';
	open my $in, '-|', "$PROMTOOL @args 2>&1" or die "$PROMTOOL: $!";
	$out .= $_ while <$in>;
	return (close($in), $out);
}

sub slurp
{
	my ($path) = @_;
	open my $in, '<', $path or die "$path: $!\n";
	local $/ = undef;
	return <$in>;
}

my ($ok, $out) = promtool('check', 'rules', $RULES);
ok($ok, 'Prometheus takes them') or diag($out);
unlike($out, qr/duplicate/i, '... each once');

my %tested = map { $_ => 1 } map { split / /, $_->[1] // '' } @days;
my %there = map { $_ => 1 } slurp($RULES) =~ /^ *- alert: (\w+)$/mg;
is(join(' ', sort keys %tested), join(' ', sort keys %there), 'each of them is tried');

for my $day (@days)
{
	my ($name, $alerts, %changed) = @$day;
	my $file = "$ENV{TIDE_DATA}/day.yml";
	open my $yaml, '>', $file or die "$file: $!\n";
	print $yaml "rule_files:\n  - $RULES\nevaluation_interval: 15s\ntests:\n", day_as_yaml($name, $alerts // '', %changed);
	close $yaml or die "$file: $!\n";
	($ok, $out) = promtool('test', 'rules', $file);
	ok($ok, "$name: " . ($alerts || 'no alert')) or diag($out);
}
done_testing();
