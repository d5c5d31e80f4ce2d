# Servers that go back in time, or come back as somebody else: the destination restored from an older backup, the origin
# restored from one, the origin replaced by its promoted standby.  Nothing is silently left out.

use strict;
use warnings;

use File::Path qw(rmtree);
use PostgreSQL::Test::RecursiveCopy;
use Test::More;

use PgTide::Mesh;
use PgTide::Recorder;
use PgTide::Region;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(conf => "wal_keep_size = 64MB\n");
my @TABLES = qw(things own);
my $n = 0;

$mesh->sql_all(q{CREATE TABLE things (id int PRIMARY KEY, v text); CREATE TABLE own (id int PRIMARY KEY, v text)});
$mesh->class('shop');
$mesh->add_table($_, 'shop') for @TABLES;
$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;

# us writes things, eu writes own; each change is another one.
sub change
{
	my (@sides) = @_;
	$n++;
	for my $side (@sides ? @sides : $mesh->sides)
	{
		my $table = $side eq 'us' ? 'things' : 'own';
		$mesh->sql($side, <<~"END");
			INSERT INTO $table SELECT 1000 * $n + i, '$side $n' FROM generate_series(1, 100) i;
			UPDATE $table SET v = v || ' changed $n' WHERE id % 7 = $n % 7;
			DELETE FROM $table WHERE id % 11 = $n % 11;
			END
	}
	return;
}

sub resyncs
{
	my ($side) = @_;
	return $mesh->sql($side, 'SELECT resyncs FROM tide.link');
}

# Waits for it; returns how often each side has copied again since.
sub equal
{
	my ($what) = @_;
	change();
	ok(defined $mesh->wait_copied(@$_), "$what: $_->[0] streams from $_->[1]") for $mesh->ways;
	$mesh->settle("$what: rows flow both ways");
	return $mesh->same_tables("$what: equal", \@TABLES);
}

# The files of a server, while it is down: nothing is lost, slots neither.
sub keep
{
	my ($node) = @_;
	$node->stop('fast');
	my $copy = $node->basedir . '/kept';
	rmtree($copy);
	PostgreSQL::Test::RecursiveCopy::copypath($node->data_dir, $copy);
	$node->start;
	return $copy;
}

sub put_back
{
	my ($node, $copy) = @_;
	$node->stop('immediate');
	rmtree($node->data_dir);
	PostgreSQL::Test::RecursiveCopy::copypath($copy, $node->data_dir);
	chmod 0700, $node->data_dir;
	unlink $node->data_dir . '/postmaster.pid';
	$node->start;
	return;
}

# Nothing was sent that is not in the backup: the progress row went back with the rows, so streaming fits.
sub test_destination_unharmed
{
	change();
	$mesh->settle;
	my $relays_stopped = $mesh->stop_relays;
	my $copy = keep($mesh->node('eu'));
	change('us');
	put_back($mesh->node('eu'), $copy);
	$mesh->start_relays;
	equal('a backup that has all that was confirmed');
	is(resyncs($_), 0, "$_ did not need to copy again") for $mesh->sides;
	return;
}

# The slots have passed what the backup has.
sub test_destination_older
{
	my $copy = keep($mesh->node('eu'));
	$mesh->settle;
	change();
	$mesh->settle;
	ok(defined wait_until(sub { slot_passed('us') }, 30, 'the slot to be confirmed'), 'the slot has passed what the backup has');
	change('eu');
	put_back($mesh->node('eu'), $copy);
	equal('an older backup of the destination');
	cmp_ok(resyncs('eu'), '>', 0, 'it was found out, and rows were copied again');
	like($mesh->sql('eu', 'SELECT last_resync FROM tide.link'), qr/back|older|ahead|past/i, '... for that reason');
	# eu is an origin, too, whose last rows are no more.
	cmp_ok(resyncs('us'), '>', 0, '... and us, which had more of it than there is, has found out');
	return;
}

sub slot_passed
{
	my ($side) = @_;
	my $lsn = $mesh->sql('eu', 'SELECT position FROM tide.link_progress');
	return $mesh->sql($side, "SELECT confirmed_flush_lsn >= '$lsn' FROM pg_replication_slots") eq 't';
}

# The same files, older; and the origin writes on before anybody looks, past where it was.
sub take_origin_back
{
	my $copy = keep($mesh->node('us'));
	change();
	$mesh->settle;
	$mesh->relay($_)->stop for $mesh->sides;
	put_back($mesh->node('us'), $copy);
	change('us') for 1 .. 20;
	return;
}

sub test_origin_older
{
	my $before = resyncs('eu');
	take_origin_back();
	note 'position of eu: ', $mesh->sql('eu', 'SELECT position FROM tide.link_progress'), ', us is at ',
	  $mesh->sql('us', 'SELECT pg_current_wal_lsn()');
	$mesh->start_relays;
	equal('an older copy of the origin');
	is(resyncs('eu'), $before + 1, '... it was found out, although its WAL had passed where eu was');
	like($mesh->sql('eu', 'SELECT last_resync FROM tide.link'), qr/back in time and on/, '... for that reason');
	return;
}

# The same, but a person is to decide: it is found out each time anew.
sub test_origin_older_manual
{
	$mesh->relink('eu', 'us', resync => 'manual');
	my $before = resyncs('eu');
	take_origin_back();
	my $position = $mesh->sql('eu', 'SELECT position FROM tide.link_progress');
	for my $time (1 .. 3)
	{
		$mesh->start_relay('eu');
		ok(defined wait_until(sub { $mesh->relay('eu')->log_text =~ /back in time and on/ }, 30, 'the error'),
			"a person is to decide: found out, attempt $time");
		$mesh->relay('eu')->stop;
	}
	is($mesh->sql('eu', 'SELECT position FROM tide.link_progress'), $position, '... and nothing was taken');
	is(resyncs('eu'), $before, '... nor copied');
	$mesh->link('eu', 'us');
	$mesh->sql('eu', sprintf q{SELECT tide.link_resync('%s')}, $PgTide::Mesh::REGION{us});
	$mesh->start_relays;
	equal('... until a person says so');
	return;
}

# The same, and the connection ends before anything of the stream was seen.  If the relay confirmed meanwhile what it
# has, the slot would no longer begin where the histories differ.
sub test_origin_older_cut_off
{
	my $before = resyncs('eu');
	take_origin_back();
	my $position = $mesh->sql('eu', 'SELECT position FROM tide.link_progress');
	my $reach = sub { $mesh->sql('eu', sprintf 'SELECT tide.region_add(%s, %s)', map { PgTide::Duo::literal($_) } $PgTide::Mesh::REGION{us}, $_[0]) };
	my $wire = PgTide::Recorder->new(name => 'deaf', port => 6543, server => $mesh->node('us'), dir => "$ENV{TESTDATADIR}/deaf", deaf => 6);
	$reach->($wire->conninfo);
	$mesh->start_relay('eu');
	ok(defined wait_until(sub { $wire->cut >= 2 }, 60, 'connections to end'), 'connections end before the stream is seen');
	$mesh->relay('eu')->stop;
	is($mesh->sql('us', "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'tide_link_eu%' AND confirmed_flush_lsn < '$position'"), 1,
		'... meanwhile nothing was confirmed');
	$reach->($mesh->conninfo('us'));
	$wire->stop;
	$mesh->start_relays;
	equal('an older copy of the origin, behind a bad link');
	is(resyncs('eu'), $before + 1, '... it was found out all the same');
	return;
}

# A standby that had not everything is promoted, and takes the origin's place.
sub test_promoted
{
	my ($before) = resyncs('eu');
	my $old = $mesh->node('us');
	$old->backup('base');
	my $new = PgTide::Region->new('us2');
	$new->init_from_backup($old, 'base', has_streaming => 1);
	$new->start;
	change();
	$mesh->settle;
	$old->wait_for_catchup('us2', 'replay', $old->lsn('insert'));
	$new->stop;
	change();
	$mesh->settle('what the standby will never have is here');
	$mesh->relay('us')->stop;
	$old->stop('immediate');
	$new->start;
	$new->promote;
	$mesh->{region}{us} = $new;
	$mesh->{relay}{us} = undef;
	$mesh->sql('eu', sprintf 'SELECT tide.region_add(%s, %s)', map { PgTide::Duo::literal($_) } $PgTide::Mesh::REGION{us}, $mesh->conninfo('us'));
	$mesh->start_relay('us');
	equal('a promoted standby of the origin');
	is(resyncs('eu'), $before + 1, 'the rows were copied again, once');
	like($mesh->sql('eu', 'SELECT last_resync FROM tide.link'), qr/timeline|slot/i, '... for a reason that is written down');
	return;
}

# Another server altogether under the same name: that needs a person.
sub test_stranger
{
	my $stranger = PgTide::Region->make('us3', region => $PgTide::Mesh::REGION{us}, conf => "wal_level = logical\nmax_wal_senders = 10\n");
	$stranger->safe_psql('postgres', 'ALTER ROLE relay REPLICATION');
	$mesh->relay('us')->stop;
	$mesh->node('us')->stop;
	my $before = resyncs('eu');
	my $rows = $mesh->sql('eu', 'SELECT count(*) FROM things');
	$mesh->{region}{us} = $stranger;
	$mesh->{relay}{us} = undef;
	$mesh->sql('us', q{CREATE TABLE things (id int PRIMARY KEY, v text); CREATE TABLE own (id int PRIMARY KEY, v text)});
	$mesh->sql('us', q{SELECT tide.class_create('shop', '{"scope": "global"}'), tide.table_add('things', 'shop'), tide.table_add('own', 'shop')});
	$mesh->sql('us', q{INSERT INTO things VALUES (1, 'of a stranger')});
	$mesh->sql('eu', sprintf 'SELECT tide.region_add(%s, %s)', map { PgTide::Duo::literal($_) } $PgTide::Mesh::REGION{us}, $mesh->conninfo('us'));
	ok(defined $mesh->wait_value('eu', 'SELECT last_error ~ \'system\' FROM tide.links', 't'), 'another server under the same name: refused');
	ok(defined $mesh->wait_value('eu', q{SELECT state IN ('error', 'stopped') FROM tide.links}, 't'), '... the link stands still (but for its attempts)');
	is($mesh->sql('eu', 'SELECT count(*) FROM things'), $rows, '... and nothing was touched');
	is(resyncs('eu'), $before, '... nor copied');
	$mesh->sql('eu', sprintf q{SELECT tide.link_resync('%s')}, $PgTide::Mesh::REGION{us});
	ok(defined $mesh->wait_copied('eu', 'us'), '... until a person says so');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... then it is the origin', ['things']);
	return;
}

test_destination_unharmed();
test_destination_older();
test_origin_older();
test_origin_older_manual();
test_origin_older_cut_off();
test_promoted();
test_stranger();
$mesh->stop;
done_testing();
