# Priorities: a class with a low one travels by a lane of its own, is held back while a more important one is late, and goes on
# later; a class moves from one lane to the other while it is written.  Nothing is lost.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my @TABLES = qw(payment metric);

# One row of tide.lanes at eu.
sub lane
{
	my ($lane) = @_;
	return $mesh->rows('eu', "SELECT * FROM tide.lanes WHERE lane = '$lane'")->[0] // {};
}

$mesh->sql_all(<<'END');
CREATE TABLE payment (id int PRIMARY KEY, v text);
CREATE TABLE metric (id int PRIMARY KEY, v text);
END
$mesh->class('money', slo => '2 seconds', priority => 90);
$mesh->class('telemetry', slo => '1 hour', priority => 50);
$mesh->add_table('payment', 'money');
$mesh->add_table('metric', 'telemetry');
$mesh->sql('us', q{INSERT INTO payment SELECT n, 'p' FROM generate_series(1, 200) n; INSERT INTO metric SELECT n, 'm' FROM generate_series(1, 200) n});
$mesh->link('eu', 'us');
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', 'us'), 'one lane while no class is less important');
is($mesh->sql('eu', 'SELECT count(*) FROM tide.lanes'), 1, '... and one slot');
is($mesh->sql('us', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'tide_link%'}), 1, '... at the origin');

# ---- a class gets a lane of its own, while it is written ----

sub writers
{
	my @writers = map { $mesh->node('us')->background_psql('postgres') } 1 .. 2;
	$_->query_until(qr//, <<'END') for @writers;
DO $$
BEGIN
	FOR n IN 1 .. 100000 LOOP
		EXIT WHEN EXISTS (SELECT FROM payment WHERE id = -1);
		UPDATE metric SET v = v || 'x' WHERE id = (random() * 200)::int AND length(v) < 1000;
		DELETE FROM metric WHERE id = (random() * 2000)::int;
		INSERT INTO metric VALUES ((random() * 2000)::int, 'new') ON CONFLICT DO NOTHING;
		UPDATE payment SET v = n WHERE id = (random() * 200)::int;
		COMMIT;
		PERFORM pg_sleep(0.002);
	END LOOP;
END $$;
\echo done
END
	return @writers;
}

sub stop_writers
{
	my (@writers) = @_;
	$mesh->sql('us', q{INSERT INTO payment VALUES (-1, 'stop')});
	$_->query_until(qr/done/, '') for @writers;
	$_->quit for @writers;
	$mesh->sql('us', 'DELETE FROM payment WHERE id = -1');
	return;
}

# The destination can't apply while its tables are locked: the lanes fall behind by different lengths.
sub move
{
	my ($what, $priority, $lanes) = @_;
	my @writers = writers();
	my $locker = $mesh->node('eu')->background_psql('postgres');
	$locker->query_safe('BEGIN; LOCK TABLE payment');
	my $said = $mesh->sql('us', qq{SELECT change FROM tide.class_alter('telemetry', '{"priority": $priority}', dry_run => true) WHERE object = 'table public.metric'});
	like($said, qr/^travels in the \w+ lane, was in the \w+ lane: .* copy it again/, "$what: said before");
	$mesh->sql($_, qq{SELECT tide.class_alter('telemetry', '{"priority": $priority}')}) for qw(us eu);
	ok(defined $mesh->wait_value('us', q{SELECT count(*) >= 300 FROM metric}, 't'), '... under load') if $priority < 50;
	$locker->query_safe('COMMIT');
	$locker->quit;
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) || ' ' || bool_and(state = 'streaming') FROM tide.lanes}, "$lanes true"), "... $lanes lane(s)");
	ok(defined $mesh->wait_copied('eu', 'us'), '... copied');
	stop_writers(@writers);
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and equal', \@TABLES);
	return;
}

move('to a lane of its own', 10, 2);
is_deeply([ map { $_->{classes} } lane('main'), lane('low') ], [ ['money'], ['telemetry'] ], 'each class in its lane');
is($mesh->sql('us', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'tide_link%' AND active}), 2, 'each lane has a slot');
is($mesh->sql('eu', 'SELECT count(*) FROM tide.links'), 1, 'and a link is one row');
ok(defined $mesh->wait_value('eu', q{SELECT string_agg(class || ' ' || paused, ', ' ORDER BY class) FROM tide.lag}, 'money false, telemetry false'), 'lag by class');

# ---- a flood in the low lane does not keep the other one ----

sub slow_metric
{
	my ($seconds) = @_;
	$mesh->sql('eu', <<~"END");
		CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep($seconds); RETURN NEW; END \$\$;
		CREATE OR REPLACE TRIGGER slow BEFORE INSERT ON metric FOR EACH ROW EXECUTE FUNCTION slow();
		ALTER TABLE metric ENABLE ALWAYS TRIGGER slow;
		END
	return;
}

# One by one, as a frame of many is seen all at once.
sub trickle
{
	my ($first, $last) = @_;
	$mesh->sql('us', "DO \$\$ BEGIN FOR n IN $first .. $last LOOP INSERT INTO metric VALUES (n, 'flood'); COMMIT; PERFORM pg_sleep(0.01); END LOOP; END \$\$");
	return;
}

sub metrics_at_eu { return $mesh->sql('eu', 'SELECT count(*) FROM metric WHERE id > 10000'); }

slow_metric(0.1);
trickle(10001, 10200);
$mesh->sql('us', q{UPDATE payment SET v = 'through' WHERE id = 1});
ok(defined $mesh->wait_value('eu', 'SELECT v FROM payment WHERE id = 1', 'through', 10), 'the flood does not keep the important class');
cmp_ok(metrics_at_eu(), '<', 200, '... while it is still being applied');
slow_metric(0);
$mesh->settle_one('us', 'eu');

# ---- the important class is late: the other lane waits ----

my $said_before = () = $mesh->relay('eu')->log_text =~ /held back: |goes on/g;
my $locker = $mesh->node('eu')->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE payment');
$mesh->sql('us', q{UPDATE payment SET v = 'held up' WHERE id = 2});
ok(defined $mesh->wait_value('eu', q{SELECT held FROM tide.lanes WHERE lane = 'low'}, 't'), 'the low lane is held back');
like(lane('low')->{reason}, qr/^class "money" from region "us-east" is [\d.]+ s late; its objective is 00:00:02$/, '... and says why');
is($mesh->sql('eu', q{SELECT paused FROM tide.lag WHERE class = 'telemetry'}), 't', '... in tide.lag, too');
is($mesh->sql('eu', 'SELECT paused_classes FROM tide.links'), '{telemetry}', '... and in tide.links');
ok(defined wait_until(sub { ($mesh->relay('eu')->get('/metrics'))[1] =~ /^pg_tide_link_held\{pipeline="link:us-east#low",direction="link"\} 1$/m }, 10, 'the metric'), '... as the metric says');
my $held_at = metrics_at_eu();
trickle(20001, 20300);
is(metrics_at_eu(), $held_at, '... and nothing of it is applied, for seconds');
ok(!lane('main')->{held}, 'the important one is not held');
my $metrics = '';
ok(defined wait_until(sub { $metrics = ($mesh->relay('eu')->get('/metrics'))[1]; $metrics =~ /^pg_tide_class_held\{region="us-east",class="telemetry"\} 1$/m }, 10, 'the metric'),
	'... the class is, as a metric says');
like($metrics, qr/^pg_tide_class_held\{region="us-east",class="money"\} 0$/m, '... and the other one is not');
like($metrics, qr/^pg_tide_class_lag_seconds\{region="us-east",class="money"\} [\d.]+$/m, '... lag by class');
like($metrics, qr/^pg_tide_class_objective_seconds\{class="money"\} 2(?:\.0+)?$/m, '... its objective');
like($metrics, qr/^pg_tide_class_slo_met_share\{class="money"\} [01](?:\.\d+)?$/m, '... how often it was met');
my $found = `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\$mesh->node('eu')->relay_conninfo}" --json 2>&1`;
like($found, qr/classes telemetry have waited for .*: class \\"money\\" from region \\"us-east\\" is/, '... the doctor says what waits for what');
my $status = `$ENV{TIDE_TOP}/build/pg_tide status -d "${\$mesh->node('eu')->relay_conninfo}" 2>&1`;
like($status, qr/^us-east +low +streaming +yes .* telemetry +class "money" from region "us-east"/m, '... and so does the status');
$locker->query_safe('COMMIT');
$locker->quit;
ok(defined $mesh->wait_value('eu', q{SELECT held FROM tide.lanes WHERE lane = 'low'}, 'f'), 'let go when the other is well');
$mesh->settle_one('us', 'eu');
$mesh->same_tables('nothing is lost', \@TABLES);
my $said = () = $mesh->relay('eu')->log_text =~ /held back: |goes on/g;
is($said - $said_before, 2, 'said once when it was held, once when it was let go');

# A more important link that is paused holds nobody.
$locker = $mesh->node('eu')->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE payment');
$mesh->sql('us', q{UPDATE payment SET v = 'again' WHERE id = 3});
ok(defined $mesh->wait_value('eu', q{SELECT held FROM tide.lanes WHERE lane = 'low'}, 't'), 'held again');
$mesh->sql('eu', q{SELECT tide._pipeline_switch('link:us-east', false)});
ok(defined $mesh->wait_value('eu', q{SELECT held FROM tide.lanes WHERE lane = 'low'}, 'f'), 'a lane that is paused holds nobody');
$mesh->sql('eu', q{SELECT tide.link_resume('us-east')});
$locker->query_safe('COMMIT');
$locker->quit;

# ---- and back, by one side first: the tables go where their origin sends them ----

move('back to the main lane', 50, 1);
is($mesh->sql('us', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'tide_link%'}), 1, 'the second slot is gone');
$mesh->sql('us', q{SELECT tide.class_alter('telemetry', '{"priority": 10}')});
$mesh->sql('us', q{UPDATE metric SET v = 'one side only'});
$mesh->settle_one('us', 'eu');
$mesh->same_tables('a class that is changed in one region only still arrives', \@TABLES);
$mesh->sql('eu', q{SELECT tide.class_alter('telemetry', '{"priority": 20}')});
$mesh->sql('us', q{SELECT tide.class_alter('telemetry', '{"priority": 60}'); DELETE FROM metric WHERE id < 1000; SELECT tide.class_alter('telemetry', '{"priority": 10}')});
ok(defined $mesh->wait_value('eu', q{SELECT count(*) || ' ' || bool_and(state = 'streaming') FROM tide.lanes}, '2 true'), 'moved to and fro');
# That the origin moved it meanwhile is noticed a few seconds later.
my $since = $mesh->sql('us', q{SELECT lane_since FROM tide.replicated_table WHERE relid = 'metric'::regclass});
ok(defined $mesh->wait_value('eu', "SELECT count(*) FROM tide.link_table WHERE table_name = 'metric' AND state = 'copied' AND lane_since = '$since'", 1, 60), '... copied');
$mesh->settle_one('us', 'eu');
$mesh->same_tables('... and equal', \@TABLES);

# ---- a lane's slot is lost: its tables are copied again, and no others ----

$mesh->relay('eu')->stop;
$mesh->sql('us', sprintf q{SELECT pg_drop_replication_slot('%s')}, lane('low')->{slot});
$mesh->sql('us', q{DELETE FROM metric WHERE id > 15000; UPDATE metric SET v = 'unseen'; UPDATE payment SET v = 'seen'});
$mesh->start_relay('eu');
ok(defined $mesh->wait_value('eu', q{SELECT resyncs FROM tide.lanes WHERE lane = 'low'}, 1), 'the slot of a lane is gone: copied again');
ok(defined $mesh->wait_copied('eu', 'us'), '... to the end');
$mesh->settle_one('us', 'eu');
$mesh->same_tables('... and equal', \@TABLES);
is($mesh->sql('eu', q{SELECT resyncs FROM tide.lanes WHERE lane = 'main'}), 0, '... the other lane was not disturbed');
like($mesh->relay('eu')->log_text, qr/resync: all rows/, '... and it was said');

# ---- a link's end is that of both lanes ----

$mesh->sql('eu', q{SELECT tide.link_pause('us-east')});
is($mesh->sql('eu', q{SELECT string_agg(state, ' ') FROM tide.lanes}), 'paused paused', 'both lanes pause');
$mesh->sql('eu', q{SELECT tide.link_resume('us-east'), tide.link_resync('us-east')});
ok(defined $mesh->wait_copied('eu', 'us'), 'both are copied again');
$mesh->settle_one('us', 'eu');
$mesh->same_tables('... and equal', \@TABLES);
$mesh->unlink('eu', 'us');
ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.link', 0), 'a link is removed');
is($mesh->sql('us', 'SELECT count(*) FROM pg_replication_slots'), 0, '... with its slots');
is($mesh->sql('eu', q{SELECT count(*) FROM pg_replication_origin}), 0, '... and its origins');
$mesh->stop;
done_testing();
